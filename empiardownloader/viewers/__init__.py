from .viewer_empiar import EmpiarDownloadViewer

__all__ = ["EmpiarDownloadViewer"]
