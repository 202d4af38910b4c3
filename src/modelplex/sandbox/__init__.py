"""`modelplex run`: a program without a network, and the bridge by which it reaches the gateway."""
