"""A sigstore of a few lines on 127.0.0.1: an identity provider, Fulcio's CA with a certificate log, and Rekor's log of signatures.

It provides what sigstore's clients check: certificates with a signed certificate timestamp (RFC 6962), entries with a signed timestamp and
an inclusion proof in a log of one entry. It accepts every token.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from servers import local_server

ISSUER = "https://accounts.example.org"
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OF_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SINCE = {"start": "2020-01-01T00:00:00Z"}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def token(identity: str) -> str:
    """Make an unsigned identity token for an identity."""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": identity, "aud": "sigstore", "iat": now, "exp": now + 600}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "HS256"}, claims)]
    return ".".join([*parts, base64.urlsafe_b64encode(b"none").rstrip(b"=").decode()])


class Sigstore:
    """The keys and the answers of the servers."""

    def __init__(self) -> None:
        self.ca, self.ct, self.rekor = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.url = ""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a sigstore for tests")])
        now = datetime.now(timezone.utc)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.ca.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.ca.public_key()), critical=False)
            .sign(self.ca, hashes.SHA256())
        )

    def config(self) -> dict[str, Any]:
        """The configuration of a client: the keys to trust, and the addresses."""

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            raw = der(key)
            public = {"rawBytes": b64(raw), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": SINCE}
            log_id = {"keyId": b64(hashlib.sha256(raw).digest())}
            return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

        service = [{"url": self.url, "majorApiVersion": 1, "validFor": SINCE, "operator": "tests"}]
        chain = {"certificates": [{"rawBytes": b64(self.root.public_bytes(serialization.Encoding.DER))}]}
        subject = {"organization": "tests", "commonName": "tests"}
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [log(self.rekor)],
                "certificateAuthorities": [{"subject": subject, "uri": self.url, "certChain": chain, "validFor": SINCE}],
                "ctlogs": [log(self.ct)],
                "timestampAuthorities": [],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service,
                "oidcUrls": service,
                "rekorTlogUrls": service,
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [],
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def certificate(self, request: dict[str, Any], bearer: str) -> dict[str, Any]:
        """Answer as Fulcio to a certificate signing request."""
        claims = json.loads(base64.urlsafe_b64decode(bearer.split(".")[1] + "=="))
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(claims["sub"])]), critical=True)
            .add_extension(x509.UnrecognizedExtension(OF_ISSUER, claims["iss"].encode()), critical=False)
        )
        tbs = builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        at = int(now.timestamp() * 1000)
        entry = hashlib.sha256(der(self.ca)).digest() + len(tbs).to_bytes(3, "big") + tbs
        proof = signed(self.ct, struct.pack("!BBQH", 0, 0, at, 1) + entry + struct.pack("!H", 0))
        stamp = struct.pack("!B32sQHBBH", 0, hashlib.sha256(der(self.ct)).digest(), at, 0, 4, 3, len(proof)) + proof
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        octets = b"\x04" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        certificate = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, octets), critical=False).sign(
            self.ca, hashes.SHA256()
        )
        pem = [cert.public_bytes(serialization.Encoding.PEM).decode() for cert in (certificate, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pem}}}

    def add_log_entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as Rekor to an entry of the kind "dsse"."""
        content = request["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        (verifier,) = content["verifiers"]
        sums = [
            hashlib.sha256(data).hexdigest() for data in (content["envelope"].encode(), base64.b64decode(envelope["payload"]))
        ]
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": sums[0]},
            "payloadHash": {"algorithm": "sha256", "value": sums[1]},
            "signatures": [{"signature": signature["sig"], "verifier": verifier} for signature in envelope["signatures"]],
        }
        body = json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, sort_keys=True, separators=(",", ":")).encode()
        root, name = hashlib.sha256(b"\0" + body).digest(), hashlib.sha256(der(self.rekor)).digest()
        note = f"a log for tests\n1\n{b64(root)}\n"
        checkpoint = f"{note}\n\u2014 tests {b64(name[:4] + signed(self.rekor, note.encode()))}\n"
        entry = {"body": b64(body), "integratedTime": int(time.time()), "logID": name.hex(), "logIndex": 0}
        promise = signed(self.rekor, json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
        proof = {"checkpoint": checkpoint, "hashes": [], "logIndex": 0, "rootHash": root.hex(), "treeSize": 1}
        return {"0" * 64: {**entry, "verification": {"inclusionProof": proof, "signedEntryTimestamp": b64(promise)}}}


def usage(*, ca: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"],
        False,
    )
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **others)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Serve a sigstore until the block ends, and yield the file with the client's configuration."""
    sigstore = Sigstore()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"authorization_endpoint": sigstore.url, "token_endpoint": sigstore.url})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("signingCert"):
                self.answer(sigstore.certificate(request, self.headers["Authorization"].removeprefix("Bearer ")))
            else:
                self.answer(sigstore.add_log_entry(request))

        def answer(self, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with local_server.serving(Handler) as sigstore.url:
        config = folder / "sigstore.json"
        config.write_text(json.dumps(sigstore.config()))
        yield config
