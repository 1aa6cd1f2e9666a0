"""Keys and certificates of the cluster, made once and made anew before they expire."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.cluster import layout

_CA_LIFE = datetime.timedelta(days=3650)
_LEAF_LIFE = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=30)

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Leaf:
    """A certificate: who it says its holder is, and which authority signs it."""

    name: str
    common_name: str
    organization: str | None = None
    hosts: tuple[str, ...] = ()
    authority: str = "cluster-ca"


AUTHORITIES = ("cluster-ca", "front-proxy-ca", "ingress-ca")

_LOCAL = ("localhost", "127.0.0.1")
LEAVES = (
    Leaf(
        "apiserver",
        "kube-apiserver",
        hosts=(
            *_LOCAL,
            layout.NODE_IP,
            layout.API_SERVICE_IP,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ),
    ),
    Leaf("kubelet-serving", f"system:node:{layout.NODE}", "system:nodes", hosts=(layout.NODE, layout.NODE_IP)),
    Leaf("ingress", "localhost", hosts=(*_LOCAL, "shop.localhost", "*.localhost"), authority="ingress-ca"),
    Leaf("apiserver-kubelet", "sandbox:apiserver"),
    Leaf("front-proxy", "front-proxy-client", authority="front-proxy-ca"),
    Leaf("admin", "sandbox-admin", "system:masters"),
    Leaf("kube-controller-manager", "system:kube-controller-manager"),
    Leaf("kube-scheduler", "system:kube-scheduler"),
    Leaf("kube-proxy", "system:kube-proxy"),
    Leaf("kubelet", f"system:node:{layout.NODE}", "system:nodes"),
    Leaf("kube-router", "sandbox:firewall"),
    Leaf("provisioner", "sandbox:provisioner"),
)


def ensure() -> None:
    """Make what is missing, and make anew what is about to expire."""
    layout.PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    renewed = {name for name in AUTHORITIES if _ensure_authority(name)}
    for leaf in LEAVES:
        if leaf.authority in renewed or not _still_good(_crt(leaf.name), leaf.hosts):
            _issue(leaf)
    if not _key(signer := "service-accounts").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(signer, key)
        layout.PKI.joinpath(f"{signer}.pub").write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    random = {
        **{name: base64.b64encode(secrets.token_bytes(32)) for name in ("encryption", "registry")},
        # No base64 here: a slash would end the name of the key in a signed request.
        **{name: secrets.token_hex(20).encode() for name in ("s3-access", "s3-secret")},
        "s3-encryption": secrets.token_hex(32).encode(),
    }
    for name, value in random.items():
        if not _key(name).exists():
            _write(_key(name), value, private=True)
    _write(layout.CA, _crt("ingress-ca").read_bytes())


def _crt(name: str) -> Path:
    return layout.PKI / f"{name}.crt"


def _key(name: str) -> Path:
    return layout.PKI / f"{name}.key"


def _ensure_authority(name: str) -> bool:
    if _still_good(_crt(name), ()):
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"runbook sandbox {name}")])
    certificate = (
        _builder(subject, subject, key.public_key(), _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(name, key)
    _write(_crt(name), certificate.public_bytes(serialization.Encoding.PEM))
    return True


def _issue(leaf: Leaf) -> None:
    certificate, key = sign(leaf)
    _write(_key(leaf.name), key, private=True)
    _write(_crt(leaf.name), certificate)


def sign(leaf: Leaf) -> tuple[bytes, bytes]:
    """A new certificate and its key, both PEM, by an authority that `ensure` has made."""
    authority = x509.load_pem_x509_certificate(_crt(leaf.authority).read_bytes())
    authority_key = serialization.load_pem_private_key(_key(leaf.authority).read_bytes(), password=None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    builder = (
        _builder(x509.Name(attributes), authority.subject, key.public_key(), _LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_SERVER if leaf.hosts else _CLIENT]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if leaf.hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in leaf.hosts]), critical=False
        )
    certificate = builder.sign(authority_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key)


def _still_good(certificate: Path, hosts: tuple[str, ...]) -> bool:
    if not certificate.exists():
        return False
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:  # cut off by a full disk or a kill
        return False
    if loaded.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < _RENEW_BEFORE:
        return False
    if not hosts:
        return True
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names) == {_general_name(host) for host in hosts}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks that are set back a little
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(name: str, key: ec.EllipticCurvePrivateKey) -> None:
    _write(_key(name), _private_pem(key), private=True)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace a file whole: a reader finds the old content or the new, never half of it."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.touch(mode=0o600 if private else 0o644)
    scratch.write_bytes(content)
    scratch.rename(path)
