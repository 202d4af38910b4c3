"""`modelplex init`: writes a config of what is found on this machine."""
