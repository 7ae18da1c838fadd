"""What differs between the databases that can hold the record, one module for each."""
