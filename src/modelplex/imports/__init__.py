"""Configs of other programs as a config of Modelplex."""
