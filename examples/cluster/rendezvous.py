"""Store at which the machines of a training meet, on a machine that is none of them: it outlives each.

python examples/cluster/rendezvous.py 0.0.0.0 29400
"""

import sys
import threading

from torch.distributed import TCPStore

store = TCPStore(sys.argv[1], int(sys.argv[2]), is_master=True, wait_for_workers=False)
threading.Event().wait()
