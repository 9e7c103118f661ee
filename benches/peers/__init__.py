"""The systems that are held against each other, and the lines of load."""

from .benteng import Benteng, BentengLeader, binary
from .garage import Garage
from .line import LINES, Line, load
from .seaweedfs import SeaweedFS

PEERS = {peer.name: peer for peer in (Benteng(), SeaweedFS(), Garage(), BentengLeader())}
__all__ = ["LINES", "PEERS", "Line", "binary", "load"]
