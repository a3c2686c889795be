"""Makes stories.txt: short stories in Spanish, one a paragraph, each about one person in one place.

    python notebooks/data/make_stories.py

What is in a sentence follows from the place and from the person, so that a model can learn which sentences belong
together; adjectives and pronouns agree; and *banco* is a bank in some stories and a bench in others. The same file every
time.
"""

import random
from pathlib import Path

FOLDER = Path(__file__).parent
COUNT = 800
PEOPLE = {"f": "Ana Lucía Marta Elena Sofía Carmen".split(), "m": "Luis Pedro Carlos Diego Pablo Mario".split()}
# A noun with its gender, for {thing} in the sentences of its place; {a} is an adjective that agrees with it.
ADJECTIVES = "nuevo viejo pequeño bonito blanco rojo negro amarillo".split()
PLACES = {
    "el banco": (
        "billete m, cuenta f, tarjeta f, moneda f, cheque m",
        "{S} cuenta el dinero|{S} pide {thing} {a}|{S} saca dinero del banco|{S} guarda {thing} en la caja fuerte"
        "|el banco abre por la mañana|el banco cierra por la tarde|{S} paga las facturas con {thing}"
        "|{S} firma un papel en el banco|{S} ahorra un poco de dinero|el cajero le da {thing} {a}",
    ),
    "el parque": (
        "pelota f, bicicleta f, cometa f, gato m, perro m",
        "{S} se sienta en el banco de madera|{S} juega con {thing} {a}|el banco está debajo de un árbol"
        "|{S} descansa en el banco del parque|las palomas comen pan junto al banco|{S} mira {thing} {a}"
        "|los niños corren por la hierba|{S} pasea entre las flores|el viejo duerme en un banco de madera"
        "|{S} lee en un banco de piedra",
    ),
    "la cocina": (
        "sopa f, tortilla f, pastel m, plato m, olla f",
        "{S} prepara {thing} {a}|{S} corta la cebolla con el cuchillo|{S} pone sal en la olla|{S} lava {thing} {a}"
        "|el agua hierve en el fuego|{S} prueba la sopa con una cuchara|{S} saca {thing} del horno"
        "|{S} bate los huevos|la cena está lista|{S} limpia la mesa",
    ),
    "la escuela": (
        "libro m, cuaderno m, lección f, pizarra f, lápiz m",
        "{S} escribe en la pizarra|{S} abre {thing} {a}|la maestra explica la lección|{S} aprende una palabra nueva"
        "|{S} pierde {thing} {a}|los alumnos leen un cuento|{S} contesta la pregunta|{S} estudia para el examen"
        "|el recreo empieza pronto|{S} busca {thing} en la mochila",
    ),
    "la playa": (
        "toalla f, sombrilla f, barco m, castillo m, concha f",
        "{S} nada en el mar|{S} encuentra {thing} {a}|las olas llegan a la arena|{S} toma el sol sobre la toalla"
        "|{S} mira {thing} {a}|el agua está fría|{S} corre por la arena|los pescadores vuelven a la orilla"
        "|{S} hace un castillo de arena|una gaviota roba {thing}",
    ),
    "el hospital": (
        "venda f, pastilla f, jarabe m, cama f, termómetro m",
        "{S} ve {thing} {a}|el médico mira la garganta|la enfermera trae {thing} {a}|{S} tiene mucha fiebre"
        "|{S} visita a un enfermo|{S} descansa en la cama|la herida ya no duele|el médico receta {thing}"
        "|{S} espera al médico|la ambulancia llega deprisa",
    ),
    "el mercado": (
        "manzana f, naranja f, pescado m, queso m, cesta f",
        "{S} compra {thing} {a}|{S} pregunta el precio|{S} llena la cesta de fruta|la vendedora pesa las patatas"
        "|{S} elige {thing} {a}|el pescado está fresco|{S} regatea con el vendedor|{S} vende {thing}"
        "|las verduras están baratas|{S} lleva las bolsas",
    ),
    "la estación": (
        "tren m, maleta f, billete m, autobús m, mochila f",
        "{S} espera el tren en el andén|{S} lleva {thing} {a}|el tren sale tarde|{S} compra el billete de ida"
        "|{S} pierde {thing} {a}|el revisor pide los billetes|{S} sube al vagón|{S} se despide de la familia"
        "|{S} busca {thing}|los viajeros miran el horario",
    ),
}


def story(choice, sample) -> str:
    gender, place = choice(sorted(PEOPLE)), choice(sorted(PLACES))
    name = choice(PEOPLE[gender])
    things, sentences = (text.split(", " if i == 0 else "|") for i, text in enumerate(PLACES[place]))
    told = [f"{name} está en {place}"]
    for template in sample(sentences, choice([3, 4, 5])):
        thing, of = choice(things).split()
        adjective = choice(ADJECTIVES)
        adjective = f"{adjective[:-1]}a" if of == "f" else adjective
        subject = choice([name, "ella" if gender == "f" else "él"])
        article = {"f": "la", "m": "el"}[of] if "{a}" in template else {"f": "una", "m": "un"}[of]
        told.append(template.format(S=subject, thing=f"{article} {thing}", a=adjective))
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in told)


def main() -> None:
    drawn, made = random.Random(3), {}
    while len(made) < COUNT:
        made.setdefault(story(drawn.choice, drawn.sample))
    (FOLDER / "stories.txt").write_text("\n\n".join(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
