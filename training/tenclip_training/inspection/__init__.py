"""Pictures of a network: its first kernels over time, and its features by class (DistInit, figures 3 to 5).

kernels     the first layer's kernels as tiles, and how much they vary over time
features    of videos: from a table, or from a network itself
embedding   t-SNE, silhouette and nearest neighbours of features
page        all of it on one HTML page
"""
