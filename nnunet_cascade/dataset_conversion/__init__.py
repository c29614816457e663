"""From DICOM (CT, RTSTRUCT, SEG) to an nnU-Net dataset, voxel for voxel, and back to DICOM."""

WORKER_MODULE = "nnunet_cascade.dataset_conversion.writing"
"""What worker processes import; named here, where nothing heavy is imported."""
