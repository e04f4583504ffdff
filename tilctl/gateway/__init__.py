"""Faces to the outside: MQTT and HTTP. They decide nothing."""
