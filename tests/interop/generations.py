"""A CA that renewed its key: residents with certificates of both generations, and what its directory has of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import CA_ENTRY, ldapsearch, list_entry
from tests.support.running import Resident, RunningCA, Up, eventually, installed_ca

Generation = Literal["old", "new"]
Identifier = Literal["full", "key"]  # `ca.authority_key_identifier`


GENERATIONS: Final[tuple[Generation, ...]] = ("old", "new")
Link = Literal["old-with-new", "new-with-old"]
LINKS: Final[tuple[Link, ...]] = ("old-with-new", "new-with-old")


@dataclass(frozen=True)
class Renewed:
    """The CA, its servers, and what was issued before and after the switch; files are PEM."""

    ca: RunningCA
    up: Up
    directory: Path
    residents: dict[tuple[Generation, str], Resident]  # good, revoked, and one that a test may revoke, of each

    def anchor(self, generation: Generation) -> Path:
        """The self-signed certificate of a generation."""
        return self.directory / f"{generation}.pem"

    def directory_values(self) -> Path:
        """All values of cACertificate, as a verifier has them from the directory."""
        return self.directory / "directory.pem"

    @property
    def both_links(self) -> Path:
        """OldWithNew and NewWithOld alone."""
        return self.directory / "links.pem"

    def link(self, name: Link) -> Path:
        """One link certificate."""
        return self.directory / f"{name}.pem"

    def path(self, certificate: Generation, anchor: Generation) -> Path:
        """A good resident's certificate, with the link that leads from it to a trust anchor of the other generation."""
        file = self.directory / f"path-{certificate}-{anchor}.pem"
        link: Link = "old-with-new" if certificate == "old" else "new-with-old"
        links = b"" if certificate == anchor else self.link(link).read_bytes()
        file.write_bytes(self.residents[certificate, "good"].certificate.read_bytes() + links)
        return file

    def authority_lists(self) -> dict[Generation, Path]:
        """The ARL, by the key that signed it."""
        return {"new": self.directory / "arl-new.pem", "old": self.directory / "arl-old.pem"}

    def lists(self) -> dict[Generation, Path]:
        """The list of their municipality, by the key that signed it."""
        return {"new": self.directory / "list-new.pem", "old": self.directory / "list-old.pem"}


@contextmanager
def renewed_ca(directory: Path, identifier: Identifier) -> Iterator[Renewed]:
    """A CA that renewed its key while its servers ran; a retired key goes on signing lists."""
    with installed_ca() as ca:
        configuration = ca.instance / "prefca.toml"
        text = configuration.read_text(encoding="utf-8")
        text = text.replace("[ca]\n", f'[ca]\nlink_lead_h = 0\nauthority_key_identifier = "{identifier}"\n')
        configuration.write_text(text.replace("[crl]\n", "[crl]\nretired_key_signs_crl = true\n"), encoding="utf-8")
        with ca.up() as up:
            ca.prefca("ocsp-delegate", "create")  # `prefca init` made the first one, before the configuration was this
            residents = dict(_issued(ca, directory, "old"))
            ca.prefca("export", "ca", "--output", directory / "old.pem")
            renew(ca)
            ca.prefca("export", "ca", "--output", directory / "new.pem")
            residents |= dict(_issued(ca, directory, "new"))
            ca.prefca("batch", "--now")
            renewed = Renewed(ca, up, directory, residents)
            _fetch(renewed)
            yield renewed


def renew(ca: RunningCA) -> None:
    """What an operator does, without waiting for relying parties."""
    ca.prefca("key", "prepare")
    ca.prefca("batch", "--now")
    ca.prefca("ocsp-delegate", "create", "--ahead")
    ca.prefca("key", "switch")


def _issued(
    ca: RunningCA, directory: Path, generation: Generation
) -> Iterator[tuple[tuple[Generation, str], Resident]]:
    for status in ("good", "revoked", "later"):
        place = directory / f"{generation}-{status}"
        place.mkdir()
        resident = ca.issue(place)
        if status == "revoked":
            ca.prefca("revoke", resident.serial, "--reason", "keyCompromise")
        yield (generation, status), resident


def _fetch(renewed: Renewed) -> None:
    """What a verifier fetches from the directory."""
    values = eventually(lambda: _four(renewed.ca), "four values of cACertificate")
    anchors = {name: _loaded(renewed.anchor(name)) for name in GENERATIONS}
    with renewed.directory_values().open("wb") as bundle:
        for certificate in values:
            bundle.write(certificate.public_bytes(Encoding.PEM))
            if certificate in anchors.values():
                continue
            name = "old-with-new" if certificate.public_key() == anchors["old"].public_key() else "new-with-old"
            (renewed.directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))

    renewed.both_links.write_bytes(b"".join(renewed.link(name).read_bytes() for name in LINKS))
    municipal = ("certificateRevocationList", list_entry("Minato-ku"), renewed.lists())
    for attribute, entry, files in (municipal, ("authorityRevocationList", CA_ENTRY, renewed.authority_lists())):
        for crl in eventually(partial(_two, renewed.ca, entry, attribute), "a list signed by both keys"):
            key = anchors["new"].public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            files["new" if crl.is_signature_valid(key) else "old"].write_bytes(crl.public_bytes(Encoding.PEM))


def _two(ca: RunningCA, entry: str, attribute: str) -> list[x509.CertificateRevocationList]:
    (attributes,) = ldapsearch(ca, entry, attribute, access="starttls").values()
    values = attributes[f"{attribute};binary"]
    return [x509.load_der_x509_crl(value) for value in values] if len(values) == 2 else []


def _four(ca: RunningCA) -> list[x509.Certificate]:
    (attributes,) = ldapsearch(ca, CA_ENTRY, "cACertificate").values()
    values = attributes["cACertificate;binary"]
    return [x509.load_der_x509_certificate(value) for value in values] if len(values) == 4 else []


def _loaded(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())
