"""What a command does to a folder of cases."""
