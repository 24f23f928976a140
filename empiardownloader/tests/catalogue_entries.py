# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for all of EMPIAR: 3,000 invented entries with the shapes that its records have, and EMDB's rows of them.

A few dozen are made by hand, after what such entries are called; the rest are made of parts, so that every question
meets many that are nearly right.
"""
import random

from empiardownloader.catalogue.facts import from_record, joined
from empiardownloader.catalogue.store import record_print
from empiardownloader.tests.base import image_set

FIRST, COUNT = 10002, 3000

# number: (title, authors, EMDB: (resolution, method, microscope, sample, PDB), size, image sets)
MOVIES = {"category": "micrographs - multiframe", "data_format": "TIFF"}
BY_HAND = {
    10017: ("Beta-galactosidase Falcon-II micrographs plus manually selected coordinates by Richard Henderson",
            ("Scheres SHW",), (4.2, "singleParticle", "FEI POLARA 300", "Escherichia coli beta-galactosidase", ""),
            "12 GB", ({"category": "micrographs - single frame", "data_format": "MRC"},)),
    10061: ("2.2 A resolution cryo-EM structure of beta-galactosidase in complex with a cell-permeant inhibitor",
            ("Bartesaghi A", "Subramaniam S"),
            (2.2, "singleParticle", "FEI TITAN KRIOS", "beta-galactosidase", "5a1a"), "12.4 TB", (MOVIES,)),
    10204: ("Relion tutorial data: β-galactosidase", ("Kimanius D",),
            (2.9, "singleParticle", "JEOL CRYO ARM 200", "b-galactosidase", ""), "60 GB", (MOVIES,)),
    10025: ("Thermoplasma acidophilum 20S proteasome movies", ("Campbell MG", "Veesler D"),
            (2.8, "singleParticle", "FEI TITAN KRIOS", "T20S proteasome", "6bdf"), "1.3 TB", (MOVIES,)),
    10057: ("Human 26S proteasome with Usp14", ("Huang X",),
            (3.6, "singleParticle", "FEI TITAN KRIOS", "26S proteasome", ""), "2 TB", (MOVIES,)),
    10200: ("Mouse heavy chain apoferritin at 1.75 A", ("Wu M", "Lander GC"),
            (1.75, "singleParticle", "FEI TALOS ARCTICA", "mouse heavy chain apoferritin", "6v21"), "1.1 TB",
            (MOVIES,)),
    10591: ("Apo-ferritin at atomic resolution, in EER", ("Nakane T",),
            (1.22, "singleParticle", "FEI TITAN KRIOS", "human apoferritin", "7a4m"), "5.7 TB",
            ({"category": "micrographs - multiframe", "data_format": "EER"},)),
    10005: ("TRPV1 ion channel", ("Liao M", "Cheng Y"),
            (3.27, "singleParticle", "FEI POLARA 300", "Transient receptor potential vanilloid 1", "3j5p"), "600 GB",
            (MOVIES,)),
    10028: ("Cryo-EM of the Plasmodium falciparum 80S ribosome bound to emetine", ("Wong W", "Scheres SHW"),
            (3.2, "singleParticle", "FEI POLARA 300", "Plasmodium falciparum 80S ribosome", "3j79"), "1.2 TB",
            (MOVIES, {"category": "picked particles - single frame - processed", "data_format": "MRCS"})),
    10077: ("E. coli 70S ribosome with EF-Tu", ("Fischer N",),
            (2.9, "singleParticle", "FEI TITAN KRIOS", "Escherichia coli 70S ribosome", ""), "3 TB", (MOVIES,)),
    10389: ("Tilt series of Chlamydomonas reinhardtii thylakoids", ("Wietrzynski W", "Engel BD"),
            (12.0, "subtomogramAveraging", "FEI TITAN KRIOS", "Chlamydomonas reinhardtii", ""), "300 GB",
            ({"category": "tilt series", "data_format": "MRC"},)),
    10164: ("HIV-1 capsid-SP1 virus-like particles, cryo-electron tomography", ("Schur FKM", "Briggs JAG"),
            (3.9, "subtomogramAveraging", "FEI TITAN KRIOS", "HIV-1 Gag", "5l93"), "90 GB",
            ({"category": "tilt series", "data_format": "TIFF"},)),
    10492: ("SARS-CoV-2 spike glycoprotein in the prefusion conformation", ("Wrapp D", "McLellan JS"),
            (3.46, "singleParticle", "FEI TITAN KRIOS", "SARS-CoV-2 spike", "6vsb"), "900 GB", (MOVIES,)),
    10516: ("Structure of the SARS-CoV-2 RNA-dependent RNA polymerase", ("Hillen HS", "Cramer P"),
            (2.9, "singleParticle", "FEI TITAN KRIOS", "SARS-CoV-2 RdRp", "6yyt"), "700 GB", (MOVIES,)),
    10261: ("Human gamma-secretase", ("Bai XC", "Shi Y"),
            (3.4, "singleParticle", "FEI TITAN KRIOS", "gamma-secretase", "5a63"), "500 GB", (MOVIES,)),
    10230: ("Alzheimer's disease tau filaments, paired helical", ("Fitzpatrick AWP", "Goedert M"),
            (3.4, "helical", "FEI TITAN KRIOS", "tau paired helical filament", "5o3l"), "400 GB", (MOVIES,)),
    10943: ("Amyloid-β 42 filaments from human brains", ("Yang Y", "Goedert M"),
            (2.5, "helical", "FEI TITAN KRIOS", "amyloid-beta 42 filaments", "7q4b"), "450 GB", (MOVIES,)),
    10021: ("Tobacco mosaic virus", ("Fromm SA", "Sachse C"),
            (3.35, "helical", "FEI TITAN KRIOS", "tobacco mosaic virus", "4udv"), "40 GB", (MOVIES,)),
    10217: ("Bovine liver glutamate dehydrogenase at 1.8 A", ("Merk A", "Subramaniam S"),
            (1.8, "singleParticle", "FEI TITAN KRIOS", "glutamate dehydrogenase", "5k12"), "2 TB", (MOVIES,)),
    10097: ("Influenza hemagglutinin trimer, tilted", ("Tan YZ", "Lyumkis D"),
            (4.2, "singleParticle", "FEI TITAN KRIOS", "Influenza A haemagglutinin", "6wxb"), "700 GB", (MOVIES,)),
    10033: ("Chaperonin GroEL in vitreous ice", ("Roh SH", "Chiu W"),
            (3.3, "singleParticle", "JEOL 3200FSC", "GroEL", ""), "200 GB", (MOVIES,)),
    10202: ("Adeno-associated virus serotype 2", ("Tan YZ",),
            (1.86, "singleParticle", "FEI TITAN KRIOS", "AAV2 capsid", ""), "3 TB", (MOVIES,)),
    10311: ("CFTR in the ATP-bound state", ("Zhang Z", "Chen J"),
            (3.2, "singleParticle", "FEI TITAN KRIOS", "Cystic fibrosis transmembrane conductance regulator", "6msm"),
            "800 GB", (MOVIES,)),
    10185: ("GABAA receptor with benzodiazepine", ("Laverty D", "Aricescu AR"),
            (3.2, "singleParticle", "FEI TITAN KRIOS", "GABA(A) receptor beta3", "6hup"), "1 TB", (MOVIES,)),
    10096: ("Ryanodine receptor RyR1", ("des Georges A", "Frank J"),
            (3.6, "singleParticle", "FEI POLARA 300", "Rabbit ryanodine receptor 1", "5t15"), "2.2 TB", (MOVIES,)),
    10532: ("Ribulose-1,5-bisphosphate carboxylase (RuBisCO)", ("Bouvier JW",),
            (2.3, "singleParticle", "FEI TITAN KRIOS", "Rubisco", ""), "350 GB", (MOVIES,)),
    10073: ("Yeast spliceosomal U4/U6.U5 tri-snRNP", ("Nguyen THD", "Nagai K"),
            (3.7, "singleParticle", "FEI POLARA 300", "Saccharomyces cerevisiae tri-snRNP", "5gan"), "1.5 TB",
            (MOVIES,)),
    10180: ("Pre-catalytic spliceosome (B complex)", ("Plaschka C", "Nagai K"),
            (3.7, "singleParticle", "FEI TITAN KRIOS", "Yeast spliceosome", "5nrl"), "3.1 TB", (MOVIES,)),
    10379: ("Bacterial ATP synthase from Bacillus PS3", ("Guo H", "Rubinstein JL"),
            (3.0, "singleParticle", "FEI TITAN KRIOS", "F-type ATPase", "6n2y"), "1.7 TB", (MOVIES,)),
    10190: ("V-ATPase from Saccharomyces cerevisiae", ("Zhao J", "Rubinstein JL"),
            (6.9, "singleParticle", "FEI TECNAI F20", "Vacuolar ATPase", "3j9t"), "300 GB", (MOVIES,)),
    10343: ("Photosystem I of Synechocystis", ("Gisriel CJ",),
            (3.1, "singleParticle", "FEI TITAN KRIOS", "Photosystem I", ""), "550 GB", (MOVIES,)),
    10081: ("HCN1 hyperpolarization-activated channel", ("Lee CH", "MacKinnon R"),
            (3.5, "singleParticle", "FEI TITAN KRIOS", "HCN1", "5u6o"), "800 GB", (MOVIES,)),
    10288: ("CB1-Gi cannabinoid receptor complex", ("Krishna Kumar K", "Skiniotis G"),
            (3.0, "singleParticle", "FEI TITAN KRIOS", "cannabinoid receptor 1, a G-protein coupled receptor", "6n4b"),
            "900 GB", (MOVIES,)),
    10499: ("In-cell tomography of Mycoplasma pneumoniae ribosomes", ("O'Reilly FJ", "Mahamid J"),
            (3.5, "subtomogramAveraging", "FEI TITAN KRIOS", "Mycoplasma pneumoniae 70S ribosome", ""), "1 TB",
            ({"category": "tilt series", "data_format": "TIFF"},)),
    11830: ("Cryo-ET of FIB-milled Chlamydomonas cells", ("Kelley R", "Plitzko JM"),
            (4.0, "subtomogramAveraging", "TFS KRIOS", "Chlamydomonas", ""), "30 TB",
            ({"category": "tilt series", "data_format": "EER"},)),
    10784: ("Catalase, for teaching", ("Kühlbrandt W",),
            (3.0, "singleParticle", "JEOL CRYO ARM 300", "Human erythrocyte catalase", ""), "8 GB", (MOVIES,)),
    10406: ("Escherichia coli RNA polymerase with sigma70", ("Glyde R", "Zhang X"),
            (3.4, "singleParticle", "FEI TITAN KRIOS", "RNA polymerase holoenzyme", "6gh5"), "1 TB", (MOVIES,)),
    10317: ("Hepatitis B virus capsid", ("Böttcher B",),
            (2.8, "singleParticle", "FEI TITAN KRIOS", "HBV core protein", "6htx"), "640 GB", (MOVIES,)),
    10299: ("Nucleosome with linker histone H1", ("Bednar J",),
            (4.0, "singleParticle", "FEI TITAN KRIOS", "nucleosome core particle", ""), "750 GB", (MOVIES,)),
    10310: ("p97/VCP with UFD1-NPL4", ("Twomey EC",),
            (3.9, "singleParticle", "FEI TITAN KRIOS", "Cdc48-Ufd1-Npl4", "6oa9"), "1.2 TB", (MOVIES,)),
    10101: ("SBF-SEM of mouse brain", ("Genoud C",), None, "80 GB",
            ({"category": "micrographs - single frame", "data_format": "TIFF", "pixel_width": "60"},)),
}
# (what is asked, one of these has to be among the first three): what a structural biologist would want to see.
QUERIES = (
    ("beta-galactosidase", (10017, 10061, 10204)), ("b-gal", (10017, 10061, 10204)),
    ("beta galactosidase relion tutorial", (10204,)), ("T20S", (10025,)), ("20S proteasomes", (10025,)),
    ("26S proteasome", (10057,)), ("apoferritin", (10200, 10591)), ("apo-ferritin EER", (10591,)),
    ("TRPV1", (10005,)), ("trpv-1 channel", (10005,)), ("capsaicin receptor", (10005,)),
    ("plasmodium falciparum ribosomes", (10028,)),
    ("E. coli 70S ribosome", (10077,)), ("HIV-1 capsid", (10164,)),
    ("human immunodeficiency virus 1 tomography", (10164,)),
    ("SARS-CoV-2 spike", (10492,)), ("covid-19 spike glycoprotein", (10492,)), ("SARS-CoV-2 polymerase", (10516,)),
    ("γ-secretase", (10261,)), ("tau filaments", (10230,)), ("amyloid β 42", (10943,)), ("TMV", (10021,)),
    ("GDH", (10217,)), ("haemagglutinin", (10097,)), ("hsp60", (10033,)), ("AAV", (10202,)), ("CFTR", (10311,)),
    ("GABA-A receptor", (10185,)), ("ryanodine receptor", (10096,)), ("rubisco", (10532,)),
    ("spliceosome Nagai", (10180, 10073)), ("F1Fo ATPase", (10379,)), ("vacuolar ATPase yeast", (10190,)),
    ("EMPIAR-10288", (10288,)), ("6n4b", (10288,)), ("GPCR", (10288,)), ("Kuhlbrandt catalase", (10784,)),
    ("chlamydomonas tilt series", (10389, 11830)), ("cdc48", (10310,)), ("hepatitis B virus", (10317,)),
    ("rna polymerase sigma70", (10406,)))

PROTEINS = ("ribosome", "kinesin", "dynein", "tubulin", "actin filament", "potassium channel", "sodium channel",
            "ABC transporter", "integrase", "polymerase", "helicase", "nuclease", "capsid", "chaperone", "protease",
            "kinase", "phosphatase", "ligase", "synthase", "hydrolase", "dehydrogenase", "oxidase", "receptor",
            "transporter", "translocon", "secretion system", "photosystem II", "phycobilisome", "nuclear pore complex")
STATES = ("apo", "ligand-bound", "inhibited", "open", "closed", "in nanodiscs", "in detergent", "in complex with DNA",
          "with antibody fragment", "mutant", "wild type", "cross-linked", "at pH 7", "at 4 degrees", "on graphene")
ORGANISMS = ("human", "mouse", "bovine", "Saccharomyces cerevisiae", "Escherichia coli", "Thermus thermophilus",
             "Arabidopsis thaliana", "Drosophila melanogaster", "Bacillus subtilis", "Trypanosoma brucei")
NAMES = ("Smith J", "Garcia M", "Tanaka K", "Nguyen T", "Kowalska A", "Okafor C", "Petrov I", "Andersson L")
FORMATS = ("MRC", "TIFF", "EER", "MRCS", "DM4")


def records(count=COUNT):
    """-> ({number: EMPIAR's record}, [EMDB's rows])"""
    chance = random.Random(24)
    entries, rows, number = {}, [], FIRST - 1
    while len(entries) < count:
        # Numbers are absent here and there.
        number += 1 if number + 1 in BY_HAND else chance.choice((1, 1, 1, 2))
        if number in BY_HAND or len(entries) >= count - sum(each > number for each in BY_HAND):
            number = number if number in BY_HAND else min(each for each in BY_HAND if each > number)
            title, authors, told, size, sets = BY_HAND[number]
        else:
            title = "%s %s %s" % (chance.choice(ORGANISMS), chance.choice(PROTEINS), chance.choice(STATES))
            authors = chance.sample(NAMES, chance.randint(1, 4))
            told = (round(chance.uniform(1.8, 9), 2), "singleParticle", chance.choice((
                "FEI TITAN KRIOS", "FEI TALOS ARCTICA", "JEOL CRYO ARM 300")), title, "")
            told = told if chance.random() < 0.8 else None
            size = "%d GB" % chance.randint(10, 9000)
            sets = ({"category": "micrographs - multiframe", "data_format": chance.choice(FORMATS)},)
        emdb_id = "EMD-%d" % (number - 5000) if told else ""
        # Some maps are named by the entry, some name it.
        named_by_map = bool(told) and number % 7 == 0
        entries[str(number)] = record(number, title, authors, size, sets, "" if named_by_map else emdb_id)
        if told:
            resolution, method, microscope, sample, pdb = told
            rows.append({"emdb_id": emdb_id, "title": title, "resolution": str(resolution),
                         "structure_determination_method": method, "microscope_name": microscope,
                         "sample_info_string": sample, "fitted_pdbs": pdb,
                         "xref_EMPIAR": "EMPIAR-%d" % number if named_by_map else ""})
    return entries, rows


def fill(store, entries, rows):
    """Put what ``records`` made into a catalogue, as a harvest does."""
    by_id = {row["emdb_id"]: row for row in rows}
    naming = {row["xref_EMPIAR"].partition("-")[2]: row for row in rows if row["xref_EMPIAR"]}
    with store.change():
        for number, told in entries.items():
            bare = from_record(int(number), told)
            linked = [by_id[each] for each in bare.emdb if each in by_id]
            linked += [naming[number]] if number in naming else []
            store.put(record_print(told), bare, joined(bare, linked))


def record(number, title, authors, size, sets, emdb_id=""):
    return {"title": title, "status": "REL", "release_date": "20%02d-01-01" % (14 + (number - 10000) // 300),
            "update_date": "2024-01-01", "dataset_size": size, "experiment_type": "EMDB",
            "cross_references": [{"name": emdb_id}] if emdb_id else [], "authors": [
                {"author": {"name": name}} for name in authors],
            "imagesets": [image_set(**dict({"pixel_width": "1.%02d" % (number % 100), "pixel_height": None}, **its))
                          for its in sets]}
