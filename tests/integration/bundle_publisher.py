"""A publisher as a process of its own; its arguments are a store's location and a number."""

import sys
from datetime import UTC, datetime, timedelta

from meshkit.bundles import open_store
from tests.contract.bundle_stores import publish

START = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def main(location: str, number: int) -> None:
    """Publish a bundle whose content is `number`, and print its version."""
    # Larger than a part, so that an upload takes several.
    content = bytes([number]) * (17 << 20 if location.startswith("s3:") else 1000)
    now = START + timedelta(hours=number)
    print(publish(open_store(location), content, now=now).version)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
