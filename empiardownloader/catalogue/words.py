# SPDX-License-Identifier: GPL-3.0-or-later
"""Words as they are compared: without case, accents, Greek letters, hyphens and plurals; and what else a protein is
called.

A text becomes a row of tokens, 'β-Galactosidases' -> 'beta galactosidase'.
"""
import re
import unicodedata
from typing import Dict, List, Tuple

GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
         "κ": "kappa", "λ": "lambda", "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi",
         "χ": "chi", "ψ": "psi", "ω": "omega"}
# Letters that have no mark to take away.
LETTERS = str.maketrans({"ł": "l", "đ": "d", "ı": "i", "ø": "o", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
# Words that a question may hold and that tell nothing of an entry; the last ones are true of nearly all entries.
FILLERS = frozenset(("a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with",
                     "what", "is", "are", "high", "low", "resolution", "cryo", "em", "cryoem", "structure", "map",
                     "dataset", "data"))
# What is called by several names, as EMDB's titles and samples have them, each written as tokens. Names within others
# (an organism's) are better left apart: a word must mean the same wherever it stands.
SYNONYMS: Tuple[Tuple[str, ...], ...] = (
    ("beta galactosidase", "b gal", "beta gal", "bgal", "lacz"),
    ("20s proteasome", "t20s", "t20s proteasome", "proteasome 20s", "proteasome core particle"),
    ("26s proteasome", "proteasome 26s"),
    ("apoferritin", "apo ferritin", "ferritin"),
    ("sars cov 2", "severe acute respiratory syndrome coronavirus 2", "sars cov2", "sarscov2", "sars2", "sars 2",
     "covid 19", "2019 ncov"),
    ("spike", "s protein", "spike glycoprotein"),
    ("hiv 1", "hiv1", "human immunodeficiency virus 1", "human immunodeficiency virus type 1"),
    ("hbv", "hepatitis b virus"), ("aav", "adeno associated virus"), ("tmv", "tobacco mosaic virus"),
    ("trpv1", "trpv 1", "transient receptor potential vanilloid 1", "capsaicin receptor"),
    ("trp", "transient receptor potential"),
    ("gpcr", "g protein coupled receptor"),
    ("gdh", "glutamate dehydrogenase"), ("ldh", "lactate dehydrogenase"), ("adh", "alcohol dehydrogenase"),
    ("nmdar", "nmda receptor", "n methyl d aspartate receptor"),
    ("ampar", "ampa receptor"), ("gabaar", "gaba a receptor", "gabaa receptor"),
    ("ryr", "ryanodine receptor"), ("ryr1", "ryanodine receptor 1"),
    ("nachr", "nicotinic acetylcholine receptor", "acetylcholine receptor"),
    ("rnap", "rna polymerase"), ("pol ii", "rna polymerase ii"),
    ("cftr", "cystic fibrosis transmembrane conductance regulator"),
    ("groel", "hsp60", "chaperonin 60"), ("tric", "cct"),
    ("p97", "vcp", "cdc48"), ("gamma secretase", "g secretase"),
    ("complex i", "nadh dehydrogenase", "nadh ubiquinone oxidoreductase"),
    ("atp synthase", "f type atpase", "f1fo atpase", "fof1 atpase"), ("v atpase", "vacuolar atpase"),
    ("fas", "fatty acid synthase"), ("rubisco", "ribulose bisphosphate carboxylase"),
    ("hemoglobin", "haemoglobin"), ("hemagglutinin", "haemagglutinin"), ("hemocyanin", "haemocyanin"),
    ("tumor", "tumour"), ("fiber", "fibre"), ("sulfur", "sulphur"), ("estrogen", "oestrogen"),
    ("amyloid beta", "abeta", "a beta"), ("alpha synuclein", "a synuclein"),
    ("e coli", "escherichia coli", "ecoli"), ("s cerevisiae", "saccharomyces cerevisiae", "yeast"),
    ("m tuberculosis", "mycobacterium tuberculosis"), ("p falciparum", "plasmodium falciparum"),
    ("c reinhardtii", "chlamydomonas reinhardtii", "chlamydomonas"),
    ("tilt series", "tomography", "tomogram", "cryo et", "cryoet"),
    ("titan krios", "krios"), ("microed", "micro ed", "electron diffraction"),
    ("mouse", "mus musculus", "murine"), ("human", "homo sapiens"), ("bovine", "bos taurus"),
    ("rat", "rattus norvegicus"), ("fission yeast", "schizosaccharomyces pombe", "s pombe"),
    ("npc", "nuclear pore complex"), ("influenza", "flu"), ("5 ht3", "5ht3", "5ht3a", "5 ht3a", "serotonin receptor"),
    ("beta 2 adrenergic receptor", "beta2 adrenergic receptor", "b2ar", "beta2ar", "beta 2ar", "beta 2 ar"),
    ("na k atpase", "nak atpase", "na k pump", "sodium potassium pump", "sodium potassium atpase"),
)


def tokens(text: str) -> List[str]:
    """'The β-galactosidases of E. coli' -> ['the', 'beta', 'galactosidase', 'of', 'e', 'coli']"""
    # A sharp s that stands alone is meant for a beta.
    lower = re.sub(r"(?<![^\W\d_])[ßẞ](?![^\W\d_])", " beta ", text)
    lower = lower.casefold().replace("ς", "σ").replace("µ", "μ").translate(LETTERS)
    spelt = "".join(" %s " % GREEK[letter] if letter in GREEK else letter for letter in lower)
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(letter))
    return [singular(token) for token in re.findall(r"[^\W_]+", plain)]


def normal(text: str) -> str:
    """The tokens of a text with a blank around each, so that ' beta gal' in it finds what begins so."""
    return " %s " % " ".join(tokens(text))


def singular(token: str) -> str:
    """'ribosomes' -> 'ribosome', 'viruses' -> 'virus', 'assemblies' -> 'assembly'; 'virus', '20s', 'gas' stay"""
    if len(token) < 4 or not token.isalpha() or not token.endswith("s") or token.endswith(("ss", "us", "is")):
        return token
    if token.endswith("ies") and len(token) > 4:
        # 'series' and 'species' are no plurals.
        return token if token in ("series", "species") else token[:-3] + "y"
    if token.endswith(("uses", "sses", "xes", "ches", "shes")):
        return token[:-2]
    return token[:-1]


def _table() -> Dict[Tuple[str, ...], Tuple[str, ...]]:
    found = {}
    for group in SYNONYMS:
        names = tuple(" ".join(tokens(name)) for name in group)
        for name in names:
            found[tuple(name.split())] = names
    return found


NAMES = _table()
LONGEST = max(map(len, NAMES))


class Term(Tuple[str, ...]):
    """Names of one thing, each a row of tokens: what an entry has to have one of. The first is as it was asked."""


def terms(question: str) -> List[Term]:
    """'the b-gal of E. coli' -> [(b gal, beta galactosidase ...), (e coli, escherichia coli)]"""
    words = tokens(question)
    found: List[Term] = []
    while words:
        for length in range(min(LONGEST, len(words)), 0, -1):
            asked = tuple(words[:length])
            if asked in NAMES:
                spelt = " ".join(asked)
                found.append(Term((spelt, *[name for name in NAMES[asked] if name != spelt])))
                words = words[length:]
                break
        else:
            found.append(Term(_spellings(words)))
    telling = [term for term in found if term[0] not in FILLERS]
    return list(dict.fromkeys(telling or found))


def _spellings(words: List[str]) -> List[str]:
    """Take the next word, with the number or letter behind it -> how it may be spelt: 'trpv1' and 'trpv 1' are one, and
    'photosystem i' is no photosystem of an author whose initial is I."""
    word = words.pop(0)
    if words and word.isalpha() and word not in FILLERS and re.fullmatch("[0-9]{1,3}|[ivx]{1,4}|[b-z]", words[0]):
        number = words.pop(0)
        return ["%s %s" % (word, number), word + number]
    if words and re.fullmatch("[0-9]{1,3}", word) and words[0] == "s":
        words.pop(0)
        return [word + "s", word + " s"]
    parts = re.fullmatch("([a-z]{2,})([0-9]{1,3})", word)
    return [word, "%s %s" % parts.groups()] if parts else [word]


def is_within(name: str, text: str) -> bool:
    """Whether a row of tokens is in a text that ``normal`` made."""
    return " %s " % name in text


def begins_within(name: str, text: str) -> bool:
    """The same for one whose last word may go on: 'rib' is in 'the ribosome'."""
    return may_go_on(name) and " " + name in text


def may_go_on(name: str) -> bool:
    """Whether the last word of a name may be the beginning of one: not 'complex i' of 'complex in', nor a code."""
    last = name.rpartition(" ")[2]
    return len(last) > 2 and not last[-1].isdigit()
