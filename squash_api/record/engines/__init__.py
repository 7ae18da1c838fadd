"""What differs between the databases that can hold the record: a module for each."""
