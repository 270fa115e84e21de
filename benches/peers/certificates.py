"""The certificate that all targets have in cases with TLS, made for this run, and the authority that signed it."""

import dataclasses
import pathlib
import subprocess

HOST = "shop.example"

EXTENSIONS = f"""
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:{HOST}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Where they are."""

    authority: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path
    both: pathlib.Path  # the certificate and the key in one file


def made(folder):
    """New ones in `folder`: ECDSA with P-256 for both, good for a week."""
    (folder / "extensions.cnf").write_text(EXTENSIONS)
    authority, certificate, both = folder / "authority.pem", folder / "server.pem", folder / "both.pem"
    authority_key, key = folder / "authority.key", folder / "server.key"
    new(folder, "authority", authority, authority_key, "/CN=peers")
    new(folder, "server", certificate, key, f"/CN={HOST}", "-CA", authority, "-CAkey", authority_key)
    both.write_text(certificate.read_text() + key.read_text())
    return Certificates(authority, certificate, key, both)


def new(folder, extensions, certificate, key, subject, *signer):
    """Makes a certificate with a key of its own."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256",
               "-days", "7", "-config", folder / "extensions.cnf", "-extensions", extensions, "-subj", subject,
               "-out", certificate, "-keyout", key, *signer]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit("certificates need openssl: apt-get install openssl") from None
    if done.returncode:
        raise SystemExit(f"openssl made no certificate: {done.stderr.strip()}")
