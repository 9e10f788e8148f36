"""What can be recorded as it is, what needs a substitute, and how a substitute shows."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from issuer.profiles.characters import (
    USUAL_SUBSTITUTES,
    CharacterError,
    Recorded,
    is_allowed,
    record,
    written_characters,
)

pytestmark = pytest.mark.req("R-3-1-8-1", "R-3-1-8-2", "R-3-1-8-3")

# The code points that the encoder below knows for the same JIS characters.
FOR_ENCODER = str.maketrans("―～∥－￥￣￠￡￢", "\u2015\u301c\u2016\u2212\uffe5\uffe3\u00a2\u00a3\u00ac")


def in_the_sets(character: str) -> bool:
    """Second opinion: ISO-2022-JP-1 is ASCII, JIS X 0208 and JIS X 0212 (and the JIS X 0201 letters, but no kana)."""
    try:
        character.translate(FOR_ENCODER).encode("iso2022_jp_1")
    except UnicodeEncodeError:
        return False
    return character.isprintable() or character == "\u3000"


@pytest.mark.parametrize("character", "濵鄧顗鷗彅桒槗")
def test_a_character_of_jis_x_0212_is_recorded_as_it_is(character: str) -> None:
    """The supplementary kanji are on the reception terminal."""
    assert record(character, {}) == Recorded(character, "0")


@pytest.mark.parametrize("character", "邉邊齋舘濱黒桐々〆ヶ・〇あアａ１　")
def test_a_character_of_jis_x_0208_is_recorded_as_it_is(character: str) -> None:
    """Kanji of both levels, kana, full-width letters, digits and space."""
    assert record(character, {}) == Recorded(character, "0")


@pytest.mark.req("R-3-1-7")
@pytest.mark.parametrize("name", ["SMITH JOHN", "O'Brien-Lee Jr.", "José", "Ångström"])
def test_names_in_alphabet_are_recorded_as_they_are(name: str) -> None:
    """ASCII, and the accented letters of JIS X 0212."""
    assert record(name, {}) == Recorded(name, "0" * len(name))


@pytest.mark.parametrize(("character", "usual"), USUAL_SUBSTITUTES.items())
def test_a_character_outside_is_refused_naming_its_usual_substitute(character: str, usual: str) -> None:
    """The counter reads the character, its code point and what others take."""
    with pytest.raises(CharacterError, match=rf"「{character}」\(U\+{ord(character):04X}\).*「{usual}」") as refused:
        record(character, {})
    assert refused.value.code == "character-not-allowed"


@pytest.mark.parametrize(("character", "usual"), USUAL_SUBSTITUTES.items())
def test_a_usual_substitute_can_be_recorded_and_shows(character: str, usual: str) -> None:
    """A flag of 1 at its place."""
    assert record(f"山{character}", {character: usual}) == Recorded(f"山{usual}", "01")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ｱ", id="half-width-katakana"),
        pytest.param("ﾞ", id="half-width-voiced-mark"),
        pytest.param("\u0000", id="nul"),
        pytest.param("\n", id="line-feed"),
        pytest.param("\u007f", id="delete"),
        pytest.param("\u00a0", id="no-break-space"),
        pytest.param("\u200b", id="zero-width-space"),
        pytest.param("\u202e", id="right-to-left-override"),
        pytest.param("\ud842", id="half-a-surrogate-pair"),
        pytest.param("😀", id="emoji"),
        pytest.param("①", id="nec-special"),
        pytest.param("\uf900", id="compatibility-ideograph"),
        pytest.param("か\u309a", id="combination-that-does-not-compose"),
        pytest.param("\u3099", id="mark-without-base"),
    ],
)
def test_what_is_no_character_of_the_sets_is_refused(text: str) -> None:
    """The message can always be printed, whatever came in."""
    with pytest.raises(CharacterError) as refused:
        record(text, {})
    assert refused.value.code == "character-not-allowed"
    assert str(refused.value).isprintable()
    assert f"U+{ord(text[0]):04X}" in str(refused.value)


def test_a_variation_sequence_needs_a_substitute_and_suggests_its_base() -> None:
    """The certificate cannot show the variant, so it must show that it does not."""
    with pytest.raises(CharacterError, match=r"U\+8FBB U\+E0100.*通常は「辻」"):
        record("辻\U000e0100", {})
    assert record("辻\U000e0100　誠", {"辻\U000e0100": "辻"}) == Recorded("辻　誠", "100")


@pytest.mark.parametrize(
    ("other", "recorded"),
    [
        pytest.param("\u2212", "\uff0d", id="minus"),
        pytest.param("\u301c", "\uff5e", id="wave-dash"),
        pytest.param("\u2016", "\u2225", id="double-line"),
        pytest.param("\u2014", "\u2015", id="dash"),
        pytest.param("\u00a5", "\uffe5", id="yen"),
        pytest.param("\u203e", "\uffe3", id="overline"),
        pytest.param("\u00a2", "\uffe0", id="cent"),
        pytest.param("\u00a3", "\uffe1", id="pound"),
        pytest.param("\u00ac", "\uffe2", id="not"),
    ],
)
def test_one_jis_character_has_one_recorded_form(other: str, recorded: str) -> None:
    """That of Windows terminals and real cards, whichever of the two came in, and without a flag."""
    assert record(other, {}) == record(recorded, {}) == Recorded(recorded, "0")


@pytest.mark.parametrize(("decomposed", "recorded"), [("か\u3099", "が"), ("ハ\u309a", "パ"), ("e\u0301", "é")])
def test_a_decomposed_character_is_composed_without_a_flag(decomposed: str, recorded: str) -> None:
    """It is the same character."""
    assert record(decomposed, {}) == Recorded(recorded, "0")


@pytest.mark.parametrize(
    ("text", "substitutes", "code"),
    [
        pytest.param("高", {"高": "髙"}, "substitute-not-allowed", id="the-wrong-way-round"),
        pytest.param("高", {"高": "喬"}, "substitute-not-needed", id="for-a-character-inside"),
        pytest.param("－", {"\u2212": "-"}, "substitute-not-needed", id="for-the-other-form-of-one-inside"),
        pytest.param("山田", {"髙": "高"}, "substitute-not-used", id="for-a-character-not-there"),
        pytest.param("辻", {"辻\U000e0100": "辻"}, "substitute-not-used", id="for-a-variant-not-there"),
        pytest.param("髙", {"髙": "高橋"}, "substitute-not-allowed", id="two-characters"),
        pytest.param("髙", {"髙": ""}, "substitute-not-allowed", id="no-character"),
        pytest.param("髙", {"髙": "\n"}, "substitute-not-allowed", id="control-character"),
        pytest.param("髙橋", {"髙橋": "高"}, "substitute-not-allowed", id="for-two-characters"),
        pytest.param("髙", {"": "高"}, "substitute-not-allowed", id="for-nothing"),
    ],
)
def test_a_wrong_choice_of_substitute_is_refused(text: str, substitutes: dict[str, str], code: str) -> None:
    """What the counter chose must be needed, used and itself recordable."""
    with pytest.raises(CharacterError) as refused:
        record(text, substitutes)
    assert refused.value.code == code


def test_flags_count_characters_as_the_real_card_does() -> None:
    """「黒桐　幹也」 has five, the space among them."""
    assert record("黒桐　幹也", {}) == Recorded("黒桐　幹也", "00000")


def test_the_sets_are_the_standards_to_the_last_kanji() -> None:
    """2,965 + 3,390 kanji of JIS X 0208, where 仝 is a symbol, and 5,801 of JIS X 0212."""
    ideographs = {chr(code_point) for code_point in range(0x4E00, 0xA000)} - {"仝"}
    assert sum(map(is_allowed, ideographs)) == 2965 + 3390 + 5801


TEXTS = st.text(st.sampled_from("山髙𠮷辻か\u3099\U000e0100\u2212ｱA é　\n") | st.characters(), max_size=12)


@settings(deadline=None)
@given(TEXTS)
@example("辻\U000e0100\u3099")
def test_any_text_can_be_recorded_once_every_character_outside_has_a_substitute(text: str) -> None:
    """One flag per character; nothing outside the sets is recorded; what has no flag is what was written."""
    written = written_characters(text)
    recorded = record(text, {character: "〓" for character in written if not is_allowed(character)})
    assert len(recorded.value) == len(recorded.flags) == len(written)
    assert all(in_the_sets(character) for character in recorded.value)
    for character, value, flag in zip(written, recorded.value, recorded.flags, strict=True):
        assert (value, flag) == ((character, "0") if in_the_sets(character) else ("〓", "1"))
