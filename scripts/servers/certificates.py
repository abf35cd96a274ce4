"""A certificate authority for one test, and a certificate that it signed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from servers.fetching import program, run
from servers.ports import HOST

__all__ = ["Certificates", "make_certificates"]

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = "2"


class Certificates(NamedTuple):
    """Files in PEM format, for 127.0.0.1 and localhost, for servers and clients alike."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a key and its certificate in a folder; each call makes others, which do not trust each other.

    Raises:
        NotOnThisMachineError: openssl is missing.
    """
    openssl = program("openssl", "openssl")
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key = folder / "ca.pem", folder / "ca.key"
    made = Certificates(ca, folder / "certificate.pem", folder / "key.pem")
    request, extensions = folder / "request.pem", folder / "extensions.txt"
    # What Python 3.13 checks strictly: the use of the key, and whose key signed.
    extensions.write_text(
        "basicConstraints = critical, CA:FALSE\n"
        "keyUsage = critical, digitalSignature\n"
        "extendedKeyUsage = serverAuth, clientAuth\n"
        "subjectKeyIdentifier = hash\n"
        "authorityKeyIdentifier = keyid\n"
        f"subjectAltName = DNS:localhost, IP:{HOST}\n",
        encoding="utf-8",
    )
    run(
        *(openssl, "req", "-x509", *_NEW_KEY, "-keyout", ca_key, "-out", ca, "-days", _DAYS),
        *("-subj", "/CN=Authority of a test", "-addext", "keyUsage = critical, keyCertSign, cRLSign"),
    )
    run(openssl, "req", *_NEW_KEY, "-keyout", made.key_file, "-out", request, "-subj", "/CN=localhost")
    run(
        *(openssl, "x509", "-req", "-in", request, "-out", made.certificate_file, "-days", _DAYS),
        *("-CA", ca, "-CAkey", ca_key, "-set_serial", "2", "-extfile", extensions),
    )
    return made
