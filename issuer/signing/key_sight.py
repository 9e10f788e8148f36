"""What is seen of the keys of a CA: their records, and since when the directory has shown the next one's."""

from hashlib import sha256

from issuer.installation import Installation
from issuer.signing.ca_key import KeySight


async def key_sight(installation: Installation) -> KeySight:
    """The keys of a CA as they are now."""
    generations, authority_id = installation.generations, installation.authority_id
    sight = KeySight(tuple(await generations.keys(authority_id)))
    planned = sight.planned
    if planned is None:
        return sight
    certificates = [planned.generation.certificate, *await generations.links(planned.generation.generation_id)]
    hashes = [sha256(certificate).digest() for certificate in certificates]
    return KeySight(sight.keys, await generations.shown_since(authority_id, hashes, planned.signs_from))
