"""The sentences of the synthetic corpus: written for p2pser, of neutral content, some short, some long."""

from __future__ import annotations

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The blue cup stands beside the window.",
        "On Tuesday the boxes go to the second floor.",
        "She carries the chairs into the garden.",
        "There are nine pencils in the drawer.",
        "The bus to the harbour leaves at seven.",
        "He folds the paper and puts it on the shelf.",
        "We meet at the corner.",
        "The grey coat hangs behind the kitchen door.",
        "My neighbour waters the plants every other evening.",
        "The keys are under the map.",
    ),
    "de": (
        "Die blaue Tasse steht neben dem Fenster.",
        "Am Dienstag kommen die Kisten in den zweiten Stock.",
        "Sie trägt die Stühle in den Garten.",
        "In der Schublade liegen neun Stifte.",
        "Der Bus zum Hafen fährt um sieben.",
        "Er faltet das Papier und legt es ins Regal.",
        "Wir treffen uns an der Ecke.",
        "Der graue Mantel hängt hinter der Tür.",
        "Mein Nachbar gießt die Pflanzen jeden zweiten Abend.",
        "Die Schlüssel sind unter der Karte.",
    ),
    "es": (
        "La taza azul está junto a la ventana.",
        "El martes llevan las cajas al segundo piso.",
        "Ella lleva las sillas al jardín.",
        "Hay nueve lápices en el cajón.",
        "El autobús del puerto sale a las siete.",
        "Dobla el papel y lo deja en el estante.",
        "Nos vemos en la esquina.",
        "El abrigo gris cuelga detrás de la puerta.",
        "Mi vecino riega las plantas una tarde sí y otra no.",
        "Las llaves están debajo del mapa.",
    ),
}
"""Ten sentences for each language; the index of a sentence is its text code."""
