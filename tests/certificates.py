"""Certificates made for one test run: an authority, servers, clients, and bad ones of each kind."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate with its chain and of its key."""

    certificate: Path
    key: Path


class Authority:
    """Issues into a folder; `ca` is the path of its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name = folder, name
        self._made = trustme.CA()
        self.ca = folder / f"{name}.pem"
        self._made.cert_pem.write_to_path(str(self.ca))

    def issue(self, name: str, *identities: str, days: tuple[float, float] = (-1, 30)) -> Pair:
        """For `identities` (localhost and 127.0.0.1 by default), valid from and till so many days from now."""
        now = datetime.datetime.now(datetime.UTC)
        start, end = (now + datetime.timedelta(days=d) for d in days)
        made = self._made.issue_cert(*(identities or ("localhost", "127.0.0.1")), not_before=start, not_after=end)
        pair = Pair(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(pair.key))
        return pair
