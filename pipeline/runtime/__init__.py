"""What every room needs: errors, files that are written whole, several processes, locks."""
