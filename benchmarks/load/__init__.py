"""A load that costs alike whatever protocol it speaks: bytes made beforehand, raw sockets.

A client library's own work would count for or against what is measured on the same cores: a
gRPC stub costs 150 us a call in Python, an HTTP library as much. Here both are some 30 us.
"""
