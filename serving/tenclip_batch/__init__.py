"""The same extraction as through a server, in processes of its own: for folders of a hundred thousand videos."""
