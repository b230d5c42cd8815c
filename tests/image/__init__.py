"""Building, checking and measuring the images with a real engine; `k8s/tenclip_image` is what runs inside of a build."""
