"""Sign entries with ed25519 keys, and check by whom a version was signed.

The signature is an envelope of DSSE (https://github.com/secure-systems-lab/dsse) around an in-toto statement
(https://in-toto.io/Statement/v1) that lists name, version, and path, SHA-256 and size of every file of the entry,
``entry.yaml`` included. Keys are made with ``ssh-keygen -t ed25519`` or ``openssl genpkey -algorithm ed25519``.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cphloc.config import jsonio
from cphloc.errors import CphlocError, DataError, InputError, NotFoundError, needs
from cphloc.zoo.entry import Entry
from cphloc.zoo.inside import read_inside
from cphloc.zoo.names import ENTRY_FILE, MAX_ENTRY_BYTES, SIGNATURE_FILE, sha256_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from cphloc.zoo.entries import Listing

PASSPHRASE = "CPHLOC_SIGNING_PASSPHRASE"
"""Environment variable with the passphrase of the private key; without it, it is asked for on the terminal."""

_TYPE = "application/vnd.in-toto+json"
_PREDICATE = "urn:cphloc:entry:1"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class Signer(NamedTuple):
    """A public key that is trusted: as OpenSSH writes it (``ssh-ed25519 AAAA...``), and its comment."""

    key: str
    comment: str = ""

    def __str__(self) -> str:
        return f"{self.fingerprint} {self.comment}".strip()

    @property
    def fingerprint(self) -> str:
        """Fingerprint as ``ssh-keygen -l`` prints it."""
        import hashlib

        digest = hashlib.sha256(base64.b64decode(self.key.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def statement(entry: Entry, content: bytes) -> bytes:
    """Return what is signed: the canonical JSON of an in-toto statement of every file of an entry.

    Args:
        entry: the entry.
        content: its ``entry.yaml``.
    """
    files = {name: (file.sha256, file.bytes) for name, file in entry.files.items()}
    files[entry.weights.file or "weights"] = (entry.weights.sha256, entry.weights.bytes)
    files[ENTRY_FILE] = (sha256_of(content), len(content))
    plain = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, (sha256, _) in sorted(files.items())],
        "predicateType": _PREDICATE,
        "predicate": {
            "name": entry.name,
            "version": entry.version,
            "bytes": {name: size for name, (_, size) in sorted(files.items())},
        },
    }
    return jsonio.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def sign(folder: Path, entry: Entry, key: Ed25519PrivateKey) -> Signer:
    """Write the signature of an entry into its folder, and return the signer."""
    payload = statement(entry, (folder / ENTRY_FILE).read_bytes())
    signer = Signer(_openssh(key.public_key()))
    envelope = {
        "payloadType": _TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": signer.fingerprint, "sig": base64.b64encode(key.sign(_to_sign(payload))).decode()},
        ],
    }
    (folder / SIGNATURE_FILE).write_text(jsonio.dumps(envelope, indent=1) + "\n", encoding="utf-8")
    return signer


def check_signature(listing: Listing, trusted: Sequence[Signer]) -> Signer:
    """Return who signed a version.

    Args:
        listing: the version.
        trusted: keys that may have signed it.

    Raises:
        DataError: it has no signature, or one that is not of these files or not by one of these keys.
    """
    with needs("a signature"):
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    payload, signatures = _read(listing)
    if payload != statement(listing.entry, listing.content):
        msg = f"{listing}: its signature is of other files; ask the publisher for the version that was signed"
        raise DataError(msg)
    for signer in trusted:
        public: Any = load_ssh_public_key(signer.key.encode())
        for signature in signatures:
            try:
                public.verify(signature, _to_sign(payload))
            except InvalidSignature:
                continue
            return signer
    msg = f"{listing}: is not signed by a trusted key; ask the publisher for the public key, and check its fingerprint"
    raise DataError(msg)


def read_trusted(path: str | Path) -> list[Signer]:
    """Read public keys from a file: lines as in ``~/.ssh/authorized_keys`` or ``*.pub``, or PEM blocks.

    Raises:
        NotFoundError: there is no such file.
        InputError: it contains no key, or one that is not an ed25519 key.
    """
    with needs("a signature"):
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = _text(Path(path))
    found = [Signer(_openssh(_key(load_pem_public_key, pem.encode(), str(path)))) for pem in _PEM.findall(text)]
    for number, line in enumerate(_PEM.sub("", text).splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(parse_key(line, f"{path}: line {number}"))
    if not found:
        msg = f"{path}: contains no public key; write one a line, as in a file made by 'ssh-keygen -t ed25519'"
        raise InputError(msg)
    return found


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read an ed25519 private key in OpenSSH or PEM format.

    Its passphrase is taken from the environment variable `PASSPHRASE`, or asked for on the terminal.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no ed25519 private key, or the passphrase is missing or wrong.
    """
    with needs("a signature"):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    content = _text(Path(path)).encode()
    read = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = _opened(read, content, str(path))
    except CphlocError:
        raise
    except Exception as error:  # cryptography raises errors of many types for damaged files and wrong passphrases
        reason = str(error).partition(".")[0] or type(error).__name__
        msg = f"{path}: no private key can be read ({reason}); make one with: ssh-keygen -t ed25519 -f {path}"
        raise InputError(msg) from None
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"{path}: is not an ed25519 key; make one with: ssh-keygen -t ed25519"
        raise InputError(msg)
    return key


def _opened(read: Callable[..., Any], content: bytes, path: str) -> Any:
    """Read a private key, with its passphrase where it has one."""
    try:
        return read(content, password=None)
    except (TypeError, ValueError) as error:
        if "password" not in str(error).lower():
            raise
    phrase = os.environ.get(PASSPHRASE)
    if phrase is None:
        if not sys.stdin.isatty():
            msg = f"{path}: the key has a passphrase; set {PASSPHRASE}, or run this on a terminal"
            raise InputError(msg)
        phrase = getpass.getpass(f"passphrase of {path}: ")
    return read(content, password=phrase.encode())


def parse_key(line: str, where: str) -> Signer:
    """Parse a public key as OpenSSH writes it, on a line with options or a comment.

    Raises:
        InputError: it is not an ed25519 key; ``where`` begins the message.
    """
    with needs("a signature"):
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    words = line.split()
    kinds = [n for n, word in enumerate(words) if word == "ssh-ed25519"]
    if not kinds or len(words) < kinds[0] + 2:
        msg = f"{where}: is not an ed25519 public key; write 'ssh-ed25519 AAAA... comment'"
        raise InputError(msg)
    key = " ".join(words[kinds[0] : kinds[0] + 2])
    return Signer(_openssh(_key(load_ssh_public_key, key.encode(), where)), " ".join(words[kinds[0] + 2 :]))


def _key(read: Callable[..., Any], content: bytes, where: str) -> Ed25519PublicKey:
    with needs("a signature"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = read(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        msg = f"{where}: no public key can be read ({str(error).partition('.')[0]}); copy it again"
        raise InputError(msg) from None
    if not isinstance(key, Ed25519PublicKey):
        msg = f"{where}: is not an ed25519 key; make one with: ssh-keygen -t ed25519"
        raise InputError(msg)
    return key


def _openssh(key: Ed25519PublicKey) -> str:
    with needs("a signature"):
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _text(path: Path) -> str:
    if not path.expanduser().is_file():
        msg = f"{path}: no such file; make a key with: ssh-keygen -t ed25519"
        raise NotFoundError(msg)
    return path.expanduser().read_text(encoding="utf-8", errors="replace")[:1_000_000]


def _to_sign(payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE."""
    return b"DSSEv1 %d %s %d %s" % (len(_TYPE), _TYPE.encode(), len(payload), payload)


def _read(listing: Listing) -> tuple[bytes, list[bytes]]:
    """Read payload and signatures of a version; they are no more than claims until they are compared."""
    try:
        plain = json.loads(_content(listing))
        if plain["payloadType"] != _TYPE:
            msg = f"payload of type {str(plain['payloadType'])[:80]}"
            raise ValueError(msg)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in plain["signatures"][:100]]
        return base64.b64decode(plain["payload"], validate=True), signatures
    except NotFoundError:
        msg = f"{listing}: has no signature ({SIGNATURE_FILE}); ask the publisher to sign it: cphloc publish --sign KEY"
        raise DataError(msg) from None
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        msg = f"{listing}: {SIGNATURE_FILE} is not a signature ({str(error)[:100]}); download the entry again"
        raise DataError(msg) from None


def _content(listing: Listing) -> bytes:
    place = listing.place
    if isinstance(place, Path):
        if not os.path.lexists(place / SIGNATURE_FILE):
            msg = "no signature"
            raise NotFoundError(msg)
        return read_inside(place, SIGNATURE_FILE, MAX_ENTRY_BYTES)
    from cphloc.download import read_url

    return read_url(f"{place}/{SIGNATURE_FILE}")
