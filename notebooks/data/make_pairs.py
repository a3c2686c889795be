"""Makes es_en_train.tsv, es_en_validation.tsv and es_en_test.tsv: Spanish sentences and their English translations.

    python notebooks/data/make_pairs.py

A grammar of our own writes both sides at once: agreement, three tenses, negation, object pronouns before the verb,
subjects left out, possessives that English turns around, adjectives behind the noun, and *banco*, which is a bank or a
bench. No sentence is in two files. The same files every time.
"""

import random
from pathlib import Path

FOLDER = Path(__file__).parent
COUNTS = {"train": 3000, "validation": 200, "test": 300}

# Spanish, its plural, gender, English, its plural
PEOPLE = """niño niños m boy boys|niña niñas f girl girls|mujer mujeres f woman women|hombre hombres m man men
abuela abuelas f grandmother grandmothers|vecino vecinos m neighbor neighbors|maestra maestras f teacher teachers
perro perros m dog dogs|gato gatos m cat cats|médico médicos m doctor doctors"""
FOOD = """manzana manzanas f apple apples|pan panes m loaf loaves|sopa sopas f soup soups|pescado pescados m fish fish
naranja naranjas f orange oranges|queso quesos m cheese cheeses"""
TEXTS = "libro libros m book books|carta cartas f letter letters|revista revistas f magazine magazines"
THINGS = """mesa mesas f table tables|silla sillas f chair chairs|puerta puertas f door doors|casa casas f house houses
coche coches m car cars|ventana ventanas f window windows|caja cajas f box boxes|barco barcos m boat boats"""
PLACES = """jardín m garden in|cocina f kitchen in|parque m park in|playa f beach on|calle f street in|escuela f school at
mercado m market at|estación f station at"""
# masculine, feminine, plurals by an s unless given, English
ADJECTIVES = """rojo roja red|blanco blanca white|negro negra black|nuevo nueva new|viejo vieja old|pequeño pequeña small
bonito bonita pretty|caro cara expensive|barato barata cheap|enorme enorme huge|verde verde green|amarillo amarilla yellow"""
STATES = "cansado cansada tired|contento contenta happy|triste triste sad|enfermo enferma sick|solo sola alone"
# infinitive, he, they, he (past), they (past), I, I (past), English base, he, past, what it acts on
VERBS = """comer come comen comió comieron como comí eat eats ate FOOD
comprar compra compran compró compraron compro compré buy buys bought FOOD TEXTS THINGS
leer lee leen leyó leyeron leo leí read reads read TEXTS
vender vende venden vendió vendieron vendo vendí sell sells sold FOOD TEXTS THINGS
buscar busca buscan buscó buscaron busco busqué seek seeks sought TEXTS THINGS
pintar pinta pintan pintó pintaron pinto pinté paint paints painted THINGS
llevar lleva llevan llevó llevaron llevo llevé carry carries carried FOOD TEXTS THINGS
perder pierde pierden perdió perdieron pierdo perdí lose loses lost TEXTS THINGS"""
ACTIONS = """dormir duerme duermen durmió durmieron duermo dormí sleep sleeps slept
cantar canta cantan cantó cantaron canto canté sing sings sang
correr corre corren corrió corrieron corro corrí run runs ran
jugar juega juegan jugó jugaron juego jugué play plays played
esperar espera esperan esperó esperaron espero esperé wait waits waited"""
BANK = """DET banco está cerrado WHEN|DET bank is closed WHEN
DET banco está abierto WHEN|DET bank is open WHEN
DET banco abre WHEN|DET bank opens WHEN
DET banco de madera está roto|DET wooden bench is broken
DET banco de madera está sucio|DET wooden bench is dirty
DET banco del jardín está roto|DET bench in the garden is broken
DET banco del parque está sucio|DET bench in the park is dirty
{} trabaja en el banco|{} works at the bank
{} va al banco con el dinero|{} goes to the bank with the money
{} saca dinero del banco|{} takes money from the bank
{} se sienta en el banco|{} sits on the bench
{} duerme en el banco del parque|{} sleeps on the bench in the park
{} pinta el banco de madera|{} paints the wooden bench
{} se sienta en el banco del jardín|{} sits on the bench in the garden"""
DET = "el the|este this|mi my|un a"
WHEN = ["hoy|today", "ahora|now", "por la noche|at night", "los lunes|on Mondays", "|"]


def table(text: str) -> list[list[str]]:
    return [row.split() for line in text.splitlines() for row in line.split("|")]


NOUNS = {"PEOPLE": table(PEOPLE), "FOOD": table(FOOD), "TEXTS": table(TEXTS), "THINGS": table(THINGS)}
PERSONS = {"he": (1, 3, 8), "they": (2, 4, 7), "I": (5, 6, 7)}  # Spanish present and past, English present


class Grammar:
    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.choice = self.random.choice

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def adjective(self, of: str, gender: str, plural: bool) -> tuple[str, str]:
        masculine, feminine, english = self.choice(table(of))
        form = masculine if gender == "m" else feminine
        return (f"{form}s" if plural else form), english

    def noun(self, kind: str, *, definite: bool = False, owner: bool = True) -> tuple[str, str, bool]:
        """Spanish, English, whether it is plural."""
        one, many, gender, english, several = self.choice(NOUNS[kind])
        plural = self.chance(0.35)
        article, determiner = self.determiner(gender, plural, definite)
        words, translated = [many if plural else one], [several if plural else english]
        if kind in ("FOOD", "TEXTS", "THINGS") and self.chance(0.5):
            spanish, adjective = self.adjective(ADJECTIVES, gender, plural)
            words.append(spanish)
            translated.insert(0, adjective)
        if owner and self.chance(0.15):
            holder, _, sex, named, _ = self.choice(NOUNS["PEOPLE"])
            article, determiner = self.determiner(gender, plural, True, plain=True)
            words.append(f"del {holder}" if sex == "m" else f"de la {holder}")
            return " ".join([article, *words]), " ".join([determiner, f"{named}'s", *translated]), plural
        if determiner == "a" and translated[0][0] in "aeiou":
            determiner = "an"
        return " ".join([article, *words]), " ".join([determiner, *translated]), plural

    def determiner(self, gender: str, plural: bool, definite: bool, *, plain: bool = False) -> tuple[str, str]:
        kinds = ["el"] if plain else ["el", "mi", "este"] if definite else ["el", "un", "mi", "este"]
        forms = {
            "el": ("el la los las", "the the"),
            "un": ("un una unos unas", "a some"),
            "mi": ("mi mi mis mis", "my my"),
            "este": ("este esta estos estas", "this these"),
        }[self.choice(kinds)]
        return forms[0].split()[2 * plural + (gender == "f")], forms[1].split()[plural]

    def verb(self, row: list[str], person: str, pronoun: str = "", late: str = "") -> tuple[str, str]:
        """A tense and perhaps a negation: Spanish, and English, in which the object pronoun follows."""
        present, past, english = PERSONS[person]
        tense, negated = self.choice(["present", "past", "future"]), self.chance(0.25)
        spanish = {"present": row[present], "past": row[past]}.get(tense)
        if tense == "future":
            spanish = f"{ {'he': 'va', 'they': 'van', 'I': 'voy'}[person] } a {row[0]}"
        spanish = " ".join(filter(None, ["no" if negated else "", pronoun, spanish]))
        auxiliary = {"present": "does not" if person == "he" else "do not", "past": "did not", "future": "will not"}
        if negated:
            translated = f"{auxiliary[tense]} {row[7]}"
        else:
            translated = {"present": row[english], "past": row[9], "future": f"will {row[7]}"}[tense]
        return spanish, " ".join(filter(None, [translated, late]))

    def subject(self) -> tuple[str, str, str]:
        if self.chance(0.15):
            return "", "I", "I"
        spanish, english, plural = self.noun("PEOPLE", definite=self.chance(0.7))
        return spanish, english, "they" if plural else "he"

    def place(self) -> tuple[str, str]:
        spanish, gender, english, preposition = self.choice(table(PLACES))
        return f"en {'el' if gender == 'm' else 'la'} {spanish}", f"{preposition} the {english}"

    def sentence(self) -> tuple[str, str]:
        kind = self.choice(["object"] * 9 + ["pronoun"] * 4 + ["action"] * 4 + ["state"] * 2 + ["bank"])
        if kind == "bank":
            (article, determiner), when = self.choice(table(DET)), self.choice(WHEN).split("|")
            made = self.choice(BANK.splitlines()).split("|")
            spanish = made[0].replace("DET", article).replace("WHEN", when[0])
            english = made[1].replace("DET", determiner).replace("WHEN", when[1])
            who = self.noun("PEOPLE", owner=False)
            while who[2]:
                who = self.noun("PEOPLE", owner=False)
            return spanish.format(who[0]), english.format(who[1])
        subject, translated, person = self.subject()
        if kind == "state":
            while not subject:
                subject, translated, person = self.subject()
            gender = "f" if any(row[0] in subject.split()[1] for row in NOUNS["PEOPLE"] if row[2] == "f") else "m"
            state, english = self.adjective(STATES, gender, person == "they")
            return f"{subject} {'están' if person == 'they' else 'está'} {state}", (
                f"{translated} {'are' if person == 'they' else 'is'} {english}"
            )
        if kind == "action":
            verb, english = self.verb(self.choice(table(ACTIONS)), person)
            where, there = self.place()
            return f"{subject} {verb} {where}", f"{translated} {english} {there}"
        row = self.choice(table(VERBS))
        if kind == "pronoun":
            pronoun = self.choice(["lo", "la", "los", "las"])
            verb, english = self.verb(row, person, pronoun, "them" if pronoun.endswith("s") else "it")
            return f"{subject} {verb}", f"{translated} {english}"
        verb, english = self.verb(row, person)
        thing = self.noun(self.choice(row[10:]))
        if " not " in f" {english} ":
            thing = thing[0], thing[1].replace("some ", "any ")
        where, there = self.place() if self.chance(0.25) else ("", "")
        return f"{subject} {verb} {thing[0]} {where}", f"{translated} {english} {thing[1]} {there}"


def written(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[0].upper()}{text[1:]}."


def main() -> None:
    grammar, seen = Grammar(7), set()
    for name, count in COUNTS.items():
        pairs = []
        while len(pairs) < count:
            spanish, english = map(written, grammar.sentence())
            if spanish not in seen:
                seen.add(spanish)
                pairs.append(f"{spanish}\t{english}\n")
        (FOLDER / f"es_en_{name}.tsv").write_text("".join(pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
