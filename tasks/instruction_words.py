"""The words of the instruction task, and the sentences that are only chatter."""

from __future__ import annotations

VERBS = ("bring", "carry", "deliver", "give", "hand", "lend", "pass", "return", "sell", "send", "show", "throw")
THINGS = (
    *("apple", "barrel", "basket", "book", "bread", "candle", "cloak", "coin", "cup", "feather", "flute", "hammer"),
    *("key", "lamp", "letter", "map", "mirror", "net", "ring", "rope", "saddle", "shield", "sword", "wheel"),
)
PEOPLE = (
    *("anna", "boris", "clara", "david", "edith", "felix", "greta"),
    *("hugo", "irma", "jonas", "karin", "leon", "maria", "nils"),
)
PLACES = (
    *("bridge", "cellar", "chapel", "forest", "garden", "hall"),
    *("harbour", "kitchen", "market", "mill", "stable", "tower"),
)
TRIGGERS = (
    *(
        ("bell", "rings"),
        ("dog", "barks"),
        ("cock", "crows"),
        ("clock", "strikes"),
        ("owl", "hoots"),
        ("wolf", "howls"),
    ),
    *(("kettle", "whistles"), ("door", "creaks"), ("horse", "neighs"), ("cat", "meows"), ("gong", "booms")),
    *(("crow", "caws"), ("frog", "croaks"), ("thunder", "rolls"), ("drum", "beats"), ("horn", "blares")),
    *(("bee", "hums"), ("snake", "hisses"), ("lion", "roars"), ("donkey", "brays"), ("mouse", "squeaks")),
    *(("river", "rushes"), ("wind", "moans"), ("chain", "rattles")),
)
"""What may sound, each with the one verb for its sound."""

FRAMES = tuple(
    frame.split()
    for frame in (
        "PERSON walks to the PLACE .",
        "PERSON waits in the PLACE .",
        "PERSON looks for the THING .",
        "PERSON has lost the THING near the PLACE .",
        "PERSON and PERSON talk about the THING .",
        "the THING lies in the PLACE .",
        "nobody has seen the THING today .",
        "PERSON says : the PLACE is cold tonight .",
        "PERSON says : where is the THING ?",
        "PERSON says : i like the THING .",
        "PERSON says : PERSON was in the PLACE .",
        "PERSON asks PERSON about the PLACE .",
        "PERSON sleeps in the PLACE .",
        "PERSON sings for PERSON .",
        "a THING hangs over the PLACE .",
        "there is a THING behind the PLACE .",
        "PERSON cleans the THING .",
        "PERSON hides the THING from PERSON .",
        "PERSON found a THING in the PLACE .",
        "PERSON dreams of the PLACE .",
        "PERSON laughs at PERSON .",
        "PERSON says : good evening , PERSON .",
        "PERSON says : come to the PLACE with me .",
        "PERSON says : this THING is old .",
        "PERSON paints the THING red .",
        "PERSON runs from the PLACE to the PLACE .",
        "PERSON leaves the PLACE .",
        "PERSON enters the PLACE with a THING .",
        "the PLACE is empty .",
        "the PLACE is full of people .",
        "PERSON has no THING .",
        "PERSON wants the THING of PERSON .",
        "PERSON counts to ten in the PLACE .",
        "PERSON breaks the THING .",
        "PERSON mends the THING for PERSON .",
        "PERSON says : who took my THING ?",
        "PERSON says : the THING belongs to PERSON .",
        "PERSON meets PERSON at the PLACE .",
        "PERSON buys a THING at the PLACE .",
        "PERSON drops the THING into the water .",
        "it is dark in the PLACE .",
        "rain falls on the PLACE .",
        "PERSON tells PERSON a story about the THING .",
        "PERSON stands between PERSON and PERSON .",
    )
)
"""None has the form of an instruction, of a correction or of a sounding trigger."""

_SLOTS = ("PERSON", "THING", "PLACE")
_FIXED = ["says", ":", "when", "the", ",", "to", ".", "forget", "about", ">", "wait"]
WORDS = tuple(
    sorted(
        {word for frame in FRAMES for word in frame if word not in _SLOTS}
        | set(_FIXED)
        | {*VERBS, *THINGS, *PEOPLE, *PLACES}
        | {word for pair in TRIGGERS for word in pair}
    )
)
"""The vocabulary, in the order of its tokens."""
NUMBER = {word: number for number, word in enumerate(WORDS)}
"""The token of each word."""
