"""Examples with labels: files into records, records into rows."""
