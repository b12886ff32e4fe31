"""Upstreams: the one door out, the kinds of upstream, and the engines that reach them. No clients and no store."""
