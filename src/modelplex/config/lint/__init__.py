"""Checks of `modelplex check`: what a valid config may still have wrong."""
