"""Which of several CAs a command is for, where it is not said but follows from what the command is about."""

from collections.abc import Collection

from issuer.installation import configured_authority, records
from issuer.profiles.authority import Authority
from issuer.profiles.municipality import municipalities_of
from issuer.profiles.profile import MAX_SERIAL
from settings.load import Settings


async def issuing_ca(settings: Settings, serials: Collection[int]) -> dict[int, str]:
    """The prefecture of the CA to ask about each serial number: of its issuer, or of the first if nobody issued it."""
    first = settings.prefectures[0]
    if len(settings.cas) == 1:
        return dict.fromkeys(serials, first)
    async with records(settings) as shared:
        issuers = await shared.store.issuers([serial for serial in serials if serial <= MAX_SERIAL])
    ours: dict[Authority | None, str] = {configured_authority(one): one.ca.prefecture for one in settings.each()}
    return {serial: ours.get(issuers.get(serial), first) for serial in serials}


def with_list(settings: Settings, municipality: str | None) -> Settings:
    """The settings of the CA that keeps the list of a municipality, named by code or name; else as they are."""
    for one in settings.each():
        if any(municipality in {m.code, m.name_ja, m.name_romaji} for m in municipalities_of(one.ca.prefecture)):
            return one
    return settings
