"""Writes a small world in simple English: labeled data for four tasks, and the texts of a domain.

    python notebooks/data/make_small_world.py

It writes acceptability*.csv, tags*.conll, questions*.json, choices*.csv and clinic.txt beside itself, always the same;
train_small_bert.py pretrains on more of `document`. Everything is made by the grammar below, none of it is copied.
"""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
SHE, HE = ("Ana", "Lucia", "Maria", "Elena", "Sofia", "Carmen"), ("Luis", "Pedro", "Carlos", "Diego", "Pablo", "Marco")
PEOPLE = {
    **{one: f"{one}s" for one in ("teacher", "doctor", "farmer", "baker", "student", "friend", "painter", "singer")},
    **{"girl": "girls", "boy": "boys", "woman": "women", "man": "men", "child": "children"},
}
THINGS = {
    **{one: f"{one}s" for one in ("key", "book", "letter", "chair", "table", "door", "coat", "hat", "lamp", "bottle")},
    **{one: f"{one}s" for one in ("basket", "picture", "umbrella", "cup", "plate", "bag", "ball", "mirror")},
    **{"box": "boxes", "knife": "knives"},
}
ADJECTIVES = ("red", "blue", "green", "white", "old", "new", "small", "big", "heavy", "broken", "clean", "beautiful")
ALONE = ("sleep", "laugh", "sing", "wait", "work", "arrive", "run", "smile")  # verbs without an object
WITH = ("see", "find", "take", "lose", "clean", "carry", "like", "need", "hide", "bring")
# What one does where. Words such as plants, waters, plays are verbs here and nouns in AMBIGUOUS.
PLACES = {
    "market": ("buys some fruit", "sells fresh bread", "counts the coins", "asks for the price", "fills the basket"),
    "school": (
        "reads a story",
        "writes on the board",
        "learns a new word",
        "answers the question",
        "opens the notebook",
    ),
    "kitchen": ("cooks the soup", "washes the plates", "cuts an onion", "boils some water", "bakes a cake"),
    "garden": ("plants a tree", "waters the flowers", "picks a rose", "digs a hole", "pulls the weeds"),
    "river": ("swims to the shore", "catches a fish", "rows the boat", "throws a stone", "crosses the bridge"),
    "station": ("waits for the train", "shows the ticket", "lifts the suitcase", "misses the bus", "says goodbye"),
    "hospital": ("visits a patient", "takes the medicine", "calls the nurse", "wears a mask", "measures the pulse"),
    "farm": ("feeds the horse", "milks the cow", "collects the eggs", "drives the tractor", "closes the fence"),
    "theater": ("watches the show", "plays the violin", "learns the role", "lights the stage", "thanks the public"),
    "workshop": ("repairs the engine", "paints the wall", "saws the wood", "sharpens the tools", "hammers the nail"),
}
AMBIGUOUS = (
    ("the plants", "are"), ("the waters", "are"), ("the rows", "are"), ("the plays", "are"), ("the paints", "are"),
    ("the cooks", "are"), ("the watches", "are"), ("the lights", "are"), ("the hammers", "are"), ("the saws", "are"),
)  # fmt: skip
TAGS = {
    "DET": "the a an some this these many two every",
    "ADP": "of near in to for on with at from behind",
    "PRON": "she he they who herself himself themselves it",
    "AUX": "is are",
    "ADV": "there now often here",
    "CCONJ": "and",
    "ADJ": " ".join((*ADJECTIVES, "fresh", "tired")),
    "PUNCT": ". ? ,",
}


def verb(stem: str, plural: bool) -> str:
    if plural:
        return stem
    return f"{stem[:-1]}ies" if stem == "carry" else f"{stem}s"


def noun(rng: random.Random, words: dict[str, str], plural: bool) -> str:
    one = rng.choice(list(words))
    return words[one] if plural else one


def subject(rng: random.Random, plural: bool) -> tuple[str, str, bool]:
    """A noun phrase of a person or thing: its words, the noun, and whether it is a person. Half of them have a word of
    the other or the same number between noun and verb."""
    person = rng.random() < 0.5
    head = noun(rng, PEOPLE if person else THINGS, plural)
    adjective = f"{rng.choice(ADJECTIVES)} " if rng.random() < 0.4 else ""
    other = rng.random() < 0.5
    between = ""
    if rng.random() < 0.5:
        kinds = [f" near the {noun(rng, THINGS, other)}", f" with the {noun(rng, THINGS, other)}"]
        if person:
            kinds.append(f" who {verb(rng.choice(WITH), plural)} the {noun(rng, THINGS, other)}")
        else:
            kinds.append(f" of the {noun(rng, PEOPLE, other)}")
        between = rng.choice(kinds)
    return f"{adjective}{head}{between}", head, person


def sentence(rng: random.Random) -> tuple[list[str], int, str]:
    """A sentence as words, the place of its main verb, and the other form of that verb."""
    plural = rng.random() < 0.5
    phrase, head, person = subject(rng, plural)
    determiner = rng.choice(("the", "the", "these" if plural else "this", "many" if plural else "every"))
    before = [determiner, *phrase.split()]
    if not person or rng.random() < 0.3:
        be, other = ("are", "is") if plural else ("is", "are")
        return [*before, be, rng.choice(ADJECTIVES), "."], len(before), other
    if rng.random() < 0.15:
        herself = "themselves" if plural else ("herself" if head in ("girl", "woman") else "himself")
        rest = ["see" if plural else "sees", herself, "in", "the", "mirror"]
        return [*before, *rest, "."], len(before), "sees" if plural else "see"
    if rng.random() < 0.5:
        stem = rng.choice(ALONE)
        rest = rng.choice(([], ["now"], ["often"], ["in", "the", rng.choice(list(PLACES))]))
    else:
        stem = rng.choice(WITH)
        rest = [rng.choice(("the", "a")), rng.choice(ADJECTIVES), noun(rng, THINGS, False)]
        rest = ["an" if rest[0] == "a" and rest[1] == "old" else rest[0], *rest[1:]]
    return [*before, verb(stem, plural), *rest, "."], len(before), verb(stem, not plural)


def text(words: list[str]) -> str:
    joined = " ".join(words).replace(" .", ".").replace(" ?", "?").replace(" ,", ",")
    return joined[0].upper() + joined[1:]


def person(rng: random.Random) -> tuple[str, str]:
    """A name and its pronoun."""
    return rng.choice([(name, "she") for name in SHE] + [(name, "he") for name in HE])


def scene(rng: random.Random) -> str:
    """Somebody does what one does at a place."""
    (name, pronoun), place = person(rng), rng.choice(list(PLACES))
    first, second, third = rng.sample(PLACES[place], 3)
    begin = rng.choice((f"{name} is in the {place}.", f"{name} goes to the {place}.", f"{name} works at the {place}."))
    lines = [begin, text([pronoun, *first.split(), "."]), text(["there", pronoun, *second.split(), "."])]
    if rng.random() < 0.5:
        lines.append(text([pronoun, "often", *third.split(), "."]))
    return " ".join(lines)


def facts(rng: random.Random) -> tuple[str, list[tuple[str, str, str]]]:
    """A text about three people and things, and questions with the answer and the sentence that gives it."""
    names = rng.sample([*SHE, *HE], 3)
    things, places = rng.sample(list(THINGS), 3), rng.sample(list(PLACES), 3)
    lines, asked = [], []
    for name, thing, place in zip(names, things, places, strict=True):
        kind, adjective = rng.randrange(3), rng.choice(ADJECTIVES)
        if kind == 0:
            lines.append(f"{name} has the {adjective} {thing}.")
            asked.append((f"Who has the {thing}?", name, f"{name} has the {thing}."))
        elif kind == 1:
            lines.append(f"The {thing} is in the {place}.")
            asked.append((f"Where is the {thing}?", f"in the {place}", f"The {thing} is in the {place}."))
        else:
            lines.append(f"{name} is in the {place}.")
            asked.append((f"Where is {name}?", f"in the {place}", f"{name} is in the {place}."))
    return " ".join(lines), asked


def story(rng: random.Random) -> tuple[str, list[tuple[str, str, str]]]:
    """A text about one person, at most one answer of each kind in it, and questions as those of `facts`."""
    (name, pronoun), place = person(rng), rng.choice(list(PLACES))
    stem, adjective, thing = rng.choice(WITH), rng.choice(ADJECTIVES), rng.choice(list(THINGS))
    lines = [f"{name} is in the {place}.", text([pronoun, *rng.choice(PLACES[place]).split(), "."])]
    lines.insert(rng.randrange(1, 3), text([pronoun, verb(stem, False), "the", adjective, thing, "."]))
    asked = [
        (f"Where is {name}?", f"in the {place}", f"{name} is in the {place}."),
        (f"What does {name} {stem}?", f"the {adjective} {thing}", f"{name} {verb(stem, False)} the {thing}."),
        (f"Who {verb(stem, False)} the {thing}?", name, f"{name} {verb(stem, False)} the {thing}."),
    ]
    return " ".join(lines), asked


def ambiguous(rng: random.Random) -> list[str]:
    phrase, be = rng.choice(AMBIGUOUS)
    return [*phrase.split(), be, rng.choice(ADJECTIVES), "."]


def document(rng: random.Random) -> str:
    """A few lines of one kind."""
    draw = rng.random()
    if draw < 0.35:
        return " ".join(text(sentence(rng)[0]) for _ in range(4))
    if draw < 0.70:
        return scene(rng)
    if draw < 0.76:
        return " ".join([text(ambiguous(rng)), text(sentence(rng)[0]), text(ambiguous(rng))])
    told, asked = story(rng) if draw < 0.88 else facts(rng)
    rng.shuffle(asked)
    return f"{told} " + " ".join(f"{question} {answer}" for question, _, answer in asked[:2])


def spoiled(rng: random.Random, kind: str) -> list[str]:
    """An unacceptable sentence: one thing is wrong."""
    while True:
        words, place, other = sentence(rng)
        if kind == "agreement":
            return [*words[:place], other, *words[place + 1 :]]
        if kind == "order" and len(words) > 4:
            i = rng.randrange(len(words) - 2)
            if {words[i], words[i + 1]} & {"the", "a", "an", "this", "these", "is", "are", "every", "many"}:
                return [*words[:i], words[i + 1], words[i], *words[i + 2 :]]
        if kind == "determiner" and words[0] in ("this", "these"):
            return ["these" if words[0] == "this" else "this", *words[1:]]
        if kind == "missing":
            return [*words[:place], *words[place + 1 :]]
        if kind == "reflexive" and words[-5:-4] and words[-4] == "in" and words[-2] == "mirror":
            wrong = [one for one in ("herself", "himself", "themselves") if one != words[-5]]
            return [*words[:-5], rng.choice(wrong) if words[-5] == "themselves" else "themselves", *words[-4:]]


def acceptability(rng: random.Random, count: int, kinds: tuple[str, ...]) -> list[dict]:
    """Sentences, 65% of them acceptable."""
    rows = []
    for _ in range(count):
        good = rng.random() < 0.65
        words = sentence(rng)[0]
        if kinds == ("reflexive",) and good:
            while words[-2] != "mirror" or words[-4] != "in":
                words = sentence(rng)[0]
        kind = "" if good else rng.choice(kinds)
        label = "acceptable" if good else "unacceptable"
        rows.append({"text": text(words if good else spoiled(rng, kind)), "label": label, "kind": kind})
    return rows


def tag(words: list[str], verbs: set[int]) -> list[tuple[str, str]]:
    closed = {word: name for name, of_tag in TAGS.items() for word in of_tag.split()}
    found = []
    for i, word in enumerate(words):
        name = "VERB" if i in verbs else closed.get(word, "PROPN" if word in (*SHE, *HE) else "NOUN")
        found.append((word, "ADJ" if word == "clean" and i not in verbs else name))
    return found


def tagged(rng: random.Random) -> list[tuple[str, str]]:
    draw = rng.random()
    if draw < 0.3:
        return tag(ambiguous(rng), set())
    if draw < 0.6:
        (name, pronoun), activities = person(rng), PLACES[rng.choice(list(PLACES))]
        words = [rng.choice((name, pronoun)), *rng.choice(activities).split(), "."]
        return tag(words, {1})
    words, place, _ = sentence(rng)
    verbs = {place} if words[place] not in ("is", "are") else set()
    if "who" in words:
        verbs.add(words.index("who") + 1)
    return tag(words, verbs)


def questions(rng: random.Random, count: int, make: Callable) -> dict:
    """In SQuAD's format."""
    paragraphs = []
    for number in range(count):
        context, asked = make(rng)
        question, answer, _ = rng.choice(asked)
        start = context.index(answer)
        if make is facts:  # where several places may be named
            sentence_of = next(one for one in context.split(". ") if answer in one and question.split()[-1][:-1] in one)
            start = context.index(sentence_of) + sentence_of.index(answer)
        found = {"id": str(number), "question": question, "answers": [{"text": answer, "answer_start": start}]}
        paragraphs.append({"context": context, "qas": [found]})
    return {"version": "1.1", "data": [{"title": "small world", "paragraphs": paragraphs}]}


def choices(rng: random.Random, count: int) -> list[dict]:
    """A scene, how all endings begin, four endings of which one fits the place, and its number."""
    rows = []
    for _ in range(count):
        (name, pronoun), (place, *others) = person(rng), rng.sample(list(PLACES), 4)
        first, right = rng.sample(PLACES[place], 2)
        endings = [right, *(rng.choice(PLACES[other]) for other in others)]
        rng.shuffle(endings)
        scene = f"{name} is in the {place}." if rng.random() < 0.5 else text([name, *first.split(), "."])
        row = {"scene": scene, "begins": pronoun.capitalize()}
        row |= {f"ending{i}": f"{ending}." for i, ending in enumerate(endings)}
        rows.append(row | {"label": endings.index(right)})
    return rows


ILLNESS = {  # a word that the small world lacks: what one does against it
    "flu": ("takes the syrup", "sleeps two days"), "covid": ("wears a mask", "stays in isolation"),
    "asthma": ("breathes with the inhaler", "avoids the smoke"), "anemia": ("takes iron", "eats some meat"),
    "diabetes": ("measures the glucose", "takes insulin"), "migraine": ("rests in the dark", "avoids the light"),
}  # fmt: skip
SIGNS = {
    "flu": ("fever", "cough"), "covid": ("fever", "fatigue"), "asthma": ("cough", "wheezing"),
    "anemia": ("fatigue", "pallor"), "diabetes": ("thirst", "fatigue"), "migraine": ("headache", "nausea"),
}  # fmt: skip


def note(rng: random.Random) -> str:
    """A doctor's note."""
    (name, pronoun), illness = person(rng), rng.choice(list(ILLNESS))
    signs = list(SIGNS[illness])
    rng.shuffle(signs)
    she = pronoun.capitalize()
    lines = [
        rng.choice((f"{name} is in the hospital.", f"The patient is {name}.", f"{name} visits the doctor.")),
        rng.choice((f"{she} has {signs[0]} and {signs[1]}.", f"The doctor sees {signs[0]} and {signs[1]}.")),
        rng.choice((f"The doctor finds {illness}.", f"It is {illness}.", f"The patient has {illness}.")),
        f"{she} {rng.choice(ILLNESS[illness])}.",
    ]
    if rng.random() < 0.4:
        lines.append(f"Many patients with {illness} have {rng.choice(signs)}.")
    return " ".join(lines)


def texts(make: Callable[[random.Random], str], count: int, seed: int) -> str:
    """Documents with blank lines between them."""
    rng = random.Random(seed)
    return "\n\n".join(make(rng) for _ in range(count)) + "\n"


def write_csv(name: str, rows: list[dict]) -> None:
    with (FOLDER / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    (FOLDER / "clinic.txt").write_text(texts(note, 450, 0), encoding="utf-8")
    known = ("agreement", "order", "determiner", "missing")
    write_csv("acceptability.csv", acceptability(random.Random(1), 1200, known))
    write_csv("acceptability_test.csv", acceptability(random.Random(2), 400, known))
    write_csv("acceptability_other.csv", acceptability(random.Random(3), 200, ("reflexive",)))
    for name, seed, count in (("tags.conll", 4, 300), ("tags_test.conll", 5, 200)):
        rng = random.Random(seed)
        blocks = ("\n".join(f"{word}\t{label}" for word, label in tagged(rng)) for _ in range(count))
        (FOLDER / name).write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    for name, seed, count, make in (
        ("questions.json", 6, 300, story),
        ("questions_test.json", 7, 150, story),
        ("questions_other.json", 10, 150, facts),
    ):
        (FOLDER / name).write_text(json.dumps(questions(random.Random(seed), count, make)) + "\n", encoding="utf-8")
    write_csv("choices.csv", choices(random.Random(8), 400))
    write_csv("choices_test.csv", choices(random.Random(9), 200))


if __name__ == "__main__":
    main()
