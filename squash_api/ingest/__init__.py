"""Taking a job in: the document it becomes, what its values come to, and where it is stored."""
