"""`murmure edge doctor`: what is wrong with a gateway, each in one sentence with one gesture.

A value that was measured stays in this process and on the technician's own screen: no finding, no JSON and no file
holds one (`privacy.py` decides who may look). Without `--fix --yes` sensors and machine are left as they were found.
"""
