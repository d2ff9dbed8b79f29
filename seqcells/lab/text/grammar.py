"""Sentences of the embedded corpus. Only VERDICTS, POSITIVE and NEGATIVE express an opinion.

In a verdict, `{verdict}` is the reviewer's opinion and `{other}` its opposite. Only word order
tells them apart.
"""

VERDICTS = {
    "adjectives": (
        "It is not {other} but {verdict}.",
        "What looked {other} turned out to be {verdict}.",
        "The first minute is {other}, everything after it is {verdict}.",
        "The rumours said {other}, the truth is {verdict}.",
        "I was told it was {other} and found it {verdict}.",
        "My dentist calls it {other}, I call it {verdict}.",
        "Far from being {other}, it is {verdict}.",
        "Where the trailer was {other}, the film is {verdict}.",
        "It is {verdict}, not {other}.",
        "Call it {verdict} rather than {other}.",
        "I found it {verdict}, and whoever finds it {other} was asleep.",
        "It turned out {verdict}, although the trailer was {other}.",
    ),
    "nouns": (
        "I expected {other} but got {verdict}.",
        "This is not {other}, this is {verdict}.",
        "The poster promised {other} and the film is {verdict}.",
        "We paid for {other} and were given {verdict}.",
        "Those who announced {other} owe us an apology, for it is {verdict}.",
        "Call it {other} if you must, to me it is {verdict}.",
        "Where others saw {other}, I saw {verdict}.",
        "What began as {other} ended as {verdict}.",
        "This is {verdict}, not {other}.",
        "I got {verdict} although I expected {other}.",
        "The film is {verdict}, whatever the poster says about {other}.",
        "Here is {verdict}, and no trace of {other}.",
    ),
}


def _phrases(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(",")]


POSITIVE = {
    "adjectives": _phrases(
        "good, great, superb, brilliant, lovely, charming, gripping, moving, clever, funny, witty,"
        "fresh, tender, dazzling, splendid, graceful, thrilling, delightful, wonderful, radiant,"
        "magnificent, sparkling, inspired, elegant, wise, touching, glorious, warm, sublime"
    ),
    "nouns": _phrases(
        "a masterpiece, a marvel, a gem, a triumph, pure gold, a delight, a treasure, a feast,"
        "a jewel, sheer magic, a wonder, a classic, a joy, true poetry, a miracle, a treat"
    ),
}

NEGATIVE = {
    "adjectives": _phrases(
        "bad, awful, dull, dreadful, boring, clumsy, stale, lifeless, tedious, silly, painful,"
        "hollow, shallow, sloppy, tiresome, wooden, bland, horrible, ghastly, pointless, muddled,"
        "soulless, dreary, feeble, lazy, grating, insipid, limp, dismal"
    ),
    "nouns": _phrases(
        "rubbish, a disaster, a mess, a bore, a failure, a headache, a catastrophe, a fiasco,"
        "a shambles, drivel, a dud, an insult, a nightmare, a calamity, cold porridge, a wreck"
    ),
}

LEADS = (
    "Right.",
    "Well, well.",
    "Row {row}, as always.",
    "We went on {day}.",
    "Seen on {day} with {companion}.",
    "{companion} chose this one.",
    "My turn to write it up, then.",
    "There were {few} of us and {few} umbrellas.",
    "I had {snack} in one hand and my ticket in the other.",
    "The cinema on {street} still has its old curtain.",
    "On {day} I followed {companion} to the late showing on {street}.",
    "Let me put down {snack} and say it before the credits have rolled.",
)

FILLERS = (
    "The {animal} in row {row} slept from the first reel to the last.",
    "It rained on {street} when we came out.",
    "{companion} asked twice who the man with the {thing} was.",
    "There is a {thing}, and a {animal} that carries it about.",
    "The story moves from {place} to {place} and back by {vehicle}.",
    "Somebody behind us unwrapped {snack} for about {few} minutes.",
    "It runs for {few} reels, the {ordinal} of them in {place}.",
    "The hero is a {job} who has inherited a {thing}.",
    "His brother, a {job}, keeps a {animal} in {place}.",
    "In the {ordinal} act a {job} and a {job} exchange one {thing} for another.",
    "Then everybody takes the {vehicle} to {place}.",
    "The {thing} comes back near the end, on top of a {vehicle}.",
    "We had {snack} in the interval, {companion} had {snack}.",
    "A {job} waits at the station with {few} suitcases.",
    "The projector stopped once, and an usher went to look for a {thing}.",
    "On {day} they show it with subtitles.",
    "The book has {few} chapters in {place}, the film has {few}.",
    "Half of it was shot in {place}, the other half in a {job}'s kitchen.",
    "The camera follows the {animal} along {street}.",
    "A letter arrives by {vehicle} and is read out by the {job}.",
    "{companion} knows the {job} who built the {vehicle}.",
    "The {ordinal} scene is set in {place}, on a {day}.",
)

SLOTS = {
    "row": ("four", "seven", "nine", "eleven", "twelve"),
    "few": ("five", "six", "eight", "ten"),
    "ordinal": ("second", "third", "fourth", "fifth"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "companion": (
        "Aunt Ida",
        "my neighbour",
        "our plumber",
        "Uncle Bo",
        "my landlady",
        "Cousin Max",
    ),
    "snack": ("popcorn", "peanuts", "liquorice", "a pear", "toffees", "a sandwich"),
    "street": ("Mill Lane", "Station Road", "Harbour Street", "Church Hill", "the ring road"),
    "animal": ("goat", "parrot", "dachshund", "goose", "tortoise", "pony"),
    "thing": ("trombone", "briefcase", "ladder", "teapot", "compass", "barometer", "parasol"),
    "place": ("Lisbon", "Bruges", "a lighthouse", "Trieste", "the Alps", "a laundry", "Oslo"),
    "vehicle": ("tram", "ferry", "bicycle", "balloon", "night train", "hay cart"),
    "job": ("baker", "violinist", "postman", "cartographer", "beekeeper", "locksmith", "dentist"),
}
