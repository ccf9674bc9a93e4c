"""`murmure policy studio`: a steward chooses a policy by what it will show and cost, before anybody signs it."""
