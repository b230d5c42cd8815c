"""What is learned from: manifests, clips, augmentation."""
