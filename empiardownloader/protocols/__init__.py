from .protocol_empiar_download import EmpiarDownloader

__all__ = ["EmpiarDownloader"]
