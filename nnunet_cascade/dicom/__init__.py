"""DICOM files, whatever they hold."""
