"""Certificates of an authority of one's own, and the keys of nodes.

For a federation on one machine or in one network, without a public authority:
the authority signs the server's certificate, and nodes trust that authority
alone. Every node has a key by which the server knows it.
"""

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("localhost", "127.0.0.1")
_DAYS = 365


class Server(NamedTuple):
    """Files of a server.

    Attributes:
        authority: certificate of the authority, which nodes are given.
        certificate: of the server, signed by it.
        key: of the server; secret.
    """

    authority: Path
    certificate: Path
    key: Path


class Node(NamedTuple):
    """Files of a node.

    Attributes:
        private: its key; secret.
        public: what is registered with the server.
    """

    private: Path
    public: Path


def server(folder: Path, hosts: tuple[str, ...] = HOSTS) -> Server:
    """Makes an authority and a server's certificate; keeps those that exist.

    The authority's own key is not kept, so that nothing else is ever signed.

    Args:
        folder: of the files.
        hosts: names and addresses by which nodes call the server.
    """
    files = Server(
        folder / "ca.crt", folder / "server.pem", folder / "server.key"
    )
    if all(path.exists() for path in files):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    signing, own = _new_key(), _new_key()
    issuer = _name("jaxedge authority")
    authority = (
        _unsigned(issuer, issuer, signing.public_key())
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(signing, hashes.SHA384())
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        _unsigned(_name(hosts[0]), issuer, own.public_key())
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(_alternatives(hosts), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(
                signing.public_key()
            ),
            critical=False,
        )
        .sign(signing, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    files.authority.write_bytes(authority.public_bytes(pem))
    files.certificate.write_bytes(certificate.public_bytes(pem))
    _write_secret(
        files.key,
        own.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return files


def node(folder: Path, name: str) -> Node:
    """Makes the keys of a node (ECDSA on P-384); keeps those that exist.

    Args:
        folder: of the files.
        name: of the node.
    """
    files = Node(folder / name, folder / f"{name}.pub")
    if all(path.exists() for path in files):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    key = _new_key()
    _write_secret(
        files.private,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    files.public.write_bytes(public + f" {name}\n".encode())
    return files


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _unsigned(subject: x509.Name, issuer: x509.Name, public: Any) -> Any:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # Clocks of machines differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: tuple[str, ...]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


def _write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
