"""The health check of a container: status 0 if the app in it answers its health page, on OPERATIONS_PORT, with 200.

python healthy.py live|ready

The answer is printed, with the reasons of an app that is not ready: `docker inspect` shows them.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    """Ask the page and print its answer; return the exit status."""
    port = os.environ.get("OPERATIONS_PORT")
    if len(sys.argv) != 2 or not port:
        print("Run OPERATIONS_PORT=9100 python healthy.py live, or ready.")
        return 1
    connection = HTTPConnection("127.0.0.1", int(port), timeout=4)
    try:
        connection.request("GET", f"/health/{sys.argv[1]}")
        answer = connection.getresponse()
        print(answer.read().decode().rstrip())
    except (OSError, HTTPException) as error:
        print(f"The app does not answer on port {port}: {error}")
        return 1
    finally:
        connection.close()
    return int(answer.status != 200)


if __name__ == "__main__":
    sys.exit(main())
