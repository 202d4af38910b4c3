"""The data path of a model call: gateway, attempts, streams, stored responses, the model
catalog.
"""
