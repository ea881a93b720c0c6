"""Create an organization's private key as vantage6 does: `private_key.py PATH`."""

import sys
from pathlib import Path

from vantage6.common.encryption import RSACryptor

RSACryptor.create_new_rsa_key(Path(sys.argv[1]))
