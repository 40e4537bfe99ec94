"""How fast an engine is: workloads, load, figures of it, and two measurements over each other.

It only asks engines, by the client that everybody has, and so it is part of this room.
"""
