"""Results as DICOM objects, and the DICOM series they came from."""
