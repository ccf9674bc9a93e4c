"""How fast is the centre, beside `mosquitto_sub > /dev/null` on the same queue?"""
