# SPDX-License-Identifier: GPL-3.0-or-later
"""
@article{Iudin2016,
  title = {EMPIAR: a public archive for raw electron microscopy image data},
  author = {Iudin, Andrii and Korir, Paul K. and Salavert-Torras, José and Kleywegt, Gerard J. and Patwardhan, Ardan},
  journal = {Nature Methods},
  volume = {13},
  pages = {387--388},
  year = {2016},
  doi = {10.1038/nmeth.3806}
}

@article{Iudin2023,
  title = {EMPIAR: the Electron Microscopy Public Image Archive},
  author = {Iudin, Andrii and Korir, Paul K. and Somasundharam, Sriram and Weyand, Simone and Cattavitello, Carlos and Fonseca, Neli and Salih, Osman and Kleywegt, Gerard J. and Patwardhan, Ardan},
  journal = {Nucleic Acids Research},
  volume = {51},
  number = {D1},
  pages = {D1503--D1511},
  year = {2023},
  doi = {10.1093/nar/gkac1062}
}
"""  # noqa: E501 - BibTeX
