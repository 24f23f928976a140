# SPDX-License-Identifier: GPL-3.0-or-later
"""Words as they are compared: without case, accents, Greek letters, hyphens and plurals; and what else a protein is
called.

A text becomes a row of tokens, 'β-Galactosidases' -> 'beta galactosidase'.
"""
import re
import unicodedata
from typing import Dict, List, NamedTuple, Tuple

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
    # Proteins and complexes.
    ("beta galactosidase", "b gal", "beta gal", "bgal", "lacz"),
    ("20s proteasome", "t20s", "t20s proteasome", "proteasome 20s", "proteasome core particle"),
    ("26s proteasome", "proteasome 26s"),
    ("apoferritin", "apo ferritin", "ferritin"),
    ("spike", "spike glycoprotein", "s glycoprotein"),
    ("trpv1", "trpv 1", "transient receptor potential vanilloid 1", "capsaicin receptor"),
    ("trp channel", "transient receptor potential"), ("gpcr", "g protein coupled receptor"),
    ("adenosine a2a receptor", "a2ar", "a2a receptor", "a 2a receptor"),
    ("glp 1 receptor", "glp1r", "glp 1r", "glp1 receptor", "glucagon like peptide 1 receptor"),
    ("cgrp receptor", "calcitonin gene related peptide receptor", "cgrp", "cgrpr"),
    ("mu opioid receptor", "mor opioid", "muor", "mu or", "opioid receptor mu"),
    ("olfactory receptor", "odorant receptor"),
    ("glutamate dehydrogenase", "gdh"), ("lactate dehydrogenase", "ldh"), ("alcohol dehydrogenase", "adh"),
    ("pyruvate dehydrogenase", "pdh", "pdhc"),
    ("nmda receptor", "nmdar", "n methyl d aspartate receptor"), ("ampa receptor", "ampar"),
    ("ionotropic glutamate receptor", "iglur"),
    ("gaba a receptor", "gabaar", "gabaa receptor", "gabaa"),
    ("ryanodine receptor", "ryr"), ("ryanodine receptor 1", "ryr1"),
    ("ip3 receptor", "ip3r", "inositol trisphosphate receptor", "inositol 1 4 5 trisphosphate receptor"),
    ("nicotinic acetylcholine receptor", "nachr", "acetylcholine receptor"),
    ("5 ht3", "5ht3", "5ht3a", "5 ht3a"), ("5 ht2a", "5ht2a"), ("serotonin receptor", "5 ht receptor"),
    ("beta 2 adrenergic receptor", "beta2 adrenergic receptor", "b2ar", "beta2ar", "beta 2ar", "beta 2 ar"),
    ("rna polymerase", "rnap"), ("rna polymerase ii", "pol ii"), ("dna polymerase kappa", "pol kappa"),
    ("rna dependent rna polymerase", "rdrp"),
    ("cftr", "cystic fibrosis transmembrane conductance regulator"),
    ("groel", "hsp60", "chaperonin 60"), ("tric", "cct"), ("hsp90", "heat shock protein 90"),
    ("hsp70", "heat shock protein 70"), ("p97", "vcp", "cdc48"), ("gamma secretase", "g secretase"),
    ("complex i", "complex 1", "nadh dehydrogenase", "nadh ubiquinone oxidoreductase"),
    ("complex iii", "complex 3", "ciii", "ciii2", "cytochrome bc1"), ("complex iv", "cytochrome c oxidase"),
    ("respiratory supercomplex", "respirasome"), ("cytochrome b6f", "cyt b6f", "b6f"),
    ("photosystem i", "photosystem 1", "psi", "ps i"), ("photosystem ii", "photosystem 2", "psii", "ps ii"),
    ("atp synthase", "f type atpase", "f1fo atpase", "fof1 atpase", "f1f0 atpase", "f1fo atp synthase",
     "f1f0 atp synthase", "f atpase"), ("v atpase", "vacuolar atpase", "v type atpase"),
    ("na k atpase", "nak atpase", "na k pump", "sodium potassium pump", "sodium potassium atpase"),
    ("serca", "calcium pump", "calcium atpase", "ca2 atpase"),
    ("p glycoprotein", "pgp", "p gp", "abcb1", "mdr1"),
    ("rubisco", "ribulose bisphosphate carboxylase"),
    ("ace2", "angiotensin converting enzyme 2"), ("cas9", "crispr"), ("kcnq1", "kv7 1"),
    ("potassium channel", "k channel"), ("sodium channel", "voltage gated sodium channel"),
    ("anaphase promoting complex", "apc c", "cyclosome"),
    ("type iii secretion system", "t3ss", "type 3 secretion system", "injectisome"),
    ("gamma tubulin ring complex", "gammaturc", "gamma turc"), ("copi", "cop i"), ("copii", "cop ii"),
    ("actin filament", "f actin", "filamentous actin"), ("microtubule", "tubulin"), ("cilium", "axoneme"),
    ("nuclear pore complex", "npc"), ("mitochondrion ribosome", "mitoribosome"),
    ("amyloid beta", "abeta"), ("amyloid beta 42", "abeta42", "abeta 42", "abeta 1 42", "amyloid beta 1 42",
                                                "a beta 42", "a beta 1 42"),
    ("alpha synuclein", "a synuclein"), ("paired helical filament", "phf"),
    ("hemoglobin", "haemoglobin"), ("hemagglutinin", "haemagglutinin", "ha trimer"), ("hemocyanin", "haemocyanin"),
    ("tumor", "tumour"), ("fiber", "fibre"), ("sulfur", "sulphur"), ("estrogen", "oestrogen"),
    # Viruses.
    ("sars cov 2", "severe acute respiratory syndrome coronavirus 2", "sars cov2", "sarscov2", "sars2", "sars 2",
     "covid 19", "covid", "2019 ncov", "ncov"),
    ("hiv 1", "hiv1", "human immunodeficiency virus 1", "human immunodeficiency virus type 1"),
    ("hbv", "hepatitis b virus"), ("aav", "adeno associated virus"), ("aav2", "adeno associated virus 2"),
    ("aav9", "adeno associated virus 9"), ("tmv", "tobacco mosaic virus"), ("influenza", "flu"),
    ("bacteriophage", "phage"), ("virus like particle", "vlp"),
    # Organisms.
    ("e coli", "escherichia coli", "ecoli"), ("s cerevisiae", "saccharomyces cerevisiae", "yeast", "s cereviseae"),
    ("m tuberculosis", "mycobacterium tuberculosis"), ("p falciparum", "plasmodium falciparum"),
    ("c reinhardtii", "chlamydomonas reinhardtii", "chlamydomonas"),
    ("mouse", "mus musculus", "murine"), ("human", "homo sapiens"), ("bovine", "bos taurus"),
    ("rat", "rattus norvegicus"), ("fission yeast", "schizosaccharomyces pombe", "s pombe"),
    # Methods and microscopes.
    ("tilt series", "tomography", "tomogram", "cryo et", "cryoet"),
    ("subtomogram averaging", "sub tomogram averaging", "sta"), ("single particle", "spa", "single particle analysis"),
    ("titan krios", "krios"), ("microed", "micro ed", "electron diffraction"),
    ("sbf sem", "sbem", "serial block face sem", "serial block face"), ("fib sem", "fibsem", "focused ion beam sem"),
)
# What is asked for by the name of its kind: these are found too, and not the other way round.
INCLUDES: Dict[str, Tuple[str, ...]] = {
    "trp channel": ("trpv1", "trpv5", "trpv6", "trpm4", "trpm8", "trpc6", "trpa1", "trpml1"),
    "gpcr": ("cannabinoid receptor", "opioid receptor", "mu opioid receptor", "adrenergic receptor",
             "muscarinic receptor", "adenosine receptor", "adenosine a2a receptor", "dopamine receptor", "rhodopsin",
             "glp 1 receptor", "cgrp receptor", "olfactory receptor", "beta 2 adrenergic receptor", "5 ht2a"),
    "glutamate receptor": ("ionotropic glutamate receptor", "ampa receptor", "nmda receptor", "kainate receptor"),
    "ionotropic glutamate receptor": ("ampa receptor", "nmda receptor", "kainate receptor"),
    "serotonin receptor": ("5 ht3", "5 ht2a"), "abc transporter": ("p glycoprotein", "cftr"),
    "sodium channel": ("nav1 5", "nav1 7", "nav1 4"), "mtor": ("mtorc1", "mtorc2"),
    "antibody": ("immunoglobulin", "igm", "igg", "fab"), "coronavirus": ("sars cov 2",),
    "flavivirus": ("dengue virus", "zika virus"), "amyloid beta": ("amyloid beta 42",),
    # The synthase, or the death receptor.
    "fas": ("fatty acid synthase",)}
# Words of one thing that are no plurals of one another, each as the last one is indexed.
STEMS: Dict[str, str] = {
    other: stem for stem, others in {
        "mitochondrion": ("mitochondria", "mitochondrial"), "bacterium": ("bacteria", "bacterial"),
        "mycobacterium": ("mycobacteria", "mycobacterial"), "cyanobacterium": ("cyanobacteria", "cyanobacterial"),
        "cilium": ("cilia", "ciliary"), "flagellum": ("flagella", "flagellar")}.items() for other in others}


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
    """'ribosomes', 'ribosomal' -> 'ribosome', 'viruses' -> 'virus', 'mitochondria' -> 'mitochondrion'; 'virus', '20s',
    'gas' stay"""
    if token in STEMS:
        return STEMS[token]
    if token.endswith("somal"):
        return token[:-2] + "e"     # 'ribosomal', 'spliceosomal', 'nucleosomal'
    if len(token) < 4 or not token.isalpha() or not token.endswith("s") or token.endswith(("ss", "us", "is")):
        return token
    if token.endswith("ies") and len(token) > 4:
        # 'series' and 'species' are no plurals.
        return token if token in ("series", "species") else token[:-3] + "y"
    if token.endswith(("uses", "sses", "xes", "ches", "shes")):
        return token[:-2]
    return token[:-1]


def _table() -> Dict[Tuple[str, ...], Tuple[str, ...]]:
    """Each name, as a row of tokens -> what else an entry may have in its place; itself the first."""
    groups = {name: group for group in SYNONYMS for name in group}
    found = {}
    for name in [*groups, *INCLUDES]:
        group = groups.get(name, (name,))
        kinds = [each for own in group for each in INCLUDES.get(own, ())]
        names = [name, *group, *(other for each in kinds for other in groups.get(each, (each,)))]
        asked = tuple(tokens(name))
        found[asked] = tuple(dict.fromkeys(" ".join(tokens(each)) for each in names))
    return found


NAMES = _table()
LONGEST = max(map(len, NAMES))


class Term(NamedTuple):
    """Names of one thing, each a row of tokens: what an entry has to have one of. The first is as it was asked."""
    names: Tuple[str, ...]
    goes_on: bool = False       # whether the first one may be the beginning of what an entry has


def terms(question: str, all_go_on: bool = False) -> List[Term]:
    """'the b-gal of E. coli' -> [(b gal, beta galactosidase ...), (e coli, escherichia coli)]

    The last word may still be being typed, so that it may go on in an entry, or all words may; a name that is known is
    whole.
    """
    words = tokens(question)
    found: List[Term] = []
    while words:
        for length in range(min(LONGEST, len(words)), 0, -1):
            asked = tuple(words[:length])
            if asked in NAMES:
                found.append(Term(NAMES[asked]))
                words = words[length:]
                break
        else:
            spellings = tuple(_spellings(words))
            found.append(Term(spellings, (all_go_on or not words) and may_go_on(spellings[0])))
    telling = [term for term in found if term.names[0] not in FILLERS]
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
    return " " + name in text


def may_go_on(name: str) -> bool:
    """Whether the last word of a name may be the beginning of one: not 'complex i' of 'complex in', nor a code."""
    last = name.rpartition(" ")[2]
    return len(last) > 2 and not last[-1].isdigit()
