"""From DICOM (CT, RTSTRUCT, SEG) to an nnU-Net dataset, voxel for voxel, and back to DICOM."""
