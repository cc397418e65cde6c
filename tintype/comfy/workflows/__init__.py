"""Workflows as data: a graph of ComfyUI's, a file that says where a request's values go, and the checks of both.

Nothing here talks to a server. What a server has comes in as it answers `/object_info`.
"""
